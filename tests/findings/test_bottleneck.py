"""Where the time went: each verdict, its remedy, and logs that are short, resumed, or hardly there."""

from typing import Any

import pytest

from vitrail.findings.bottleneck import Verdict, steady, usage, verdict

GPU: dict[str, Any] = {
    "workers": 2,
    "cores": 16,
    "threads": 8,
    "device": "cuda:0",
    "processor": "A fast device",
    "precision": "bfloat16",
    "peak_flops": 7e14,
    "memory_gib": 80.0,
}


def row(step: int, **other: Any) -> dict[str, Any]:
    usual = {"images_per_second": 640.0, "waiting": 0.01, "copying": 0.002, "communicating": None}
    return {"kind": "train", "step": step, **usual, "flops_share": 0.47, "memory_gib": 12.0, "session": 0, **other}


def rows(count: int = 5, **other: Any) -> list[dict[str, Any]]:
    return [row(50 * (i + 1), **other) for i in range(count)]


def judged(log: list[dict[str, Any]], **environment: Any) -> Verdict:
    found = verdict(log, GPU | environment)
    assert found is not None
    return found


def test_waiting_asks_for_as_many_workers_as_would_keep_up() -> None:
    found = judged(rows(waiting=0.66))  # 640 images/s in a third of the time: 1,882 without waiting, 5.9 workers
    assert found.bound == "waiting"
    assert found.sentence == (
        "Data-bound: 2 workers give 640 images/s, the step could take 1,882: add 4 more workers (--workers 6), keep a "
        "small set on the device (--resident), or prepare the images at a smaller size."
    )


def test_workers_beyond_the_cores_are_not_advised() -> None:
    some = judged(rows(waiting=0.66), cores=4)
    assert "4 more workers would be needed, but this machine has 4 cores, 1 free: --workers 3 helps in part" in str(
        some
    )
    none = judged(rows(waiting=0.5), cores=2, workers=1, threads=2, device="cpu")
    assert "1 more worker would be needed, but this machine has 2 cores, all in use: keep a small set" in str(none)
    assert "--workers" not in str(none)


def test_a_cpu_lends_its_threads_to_the_training() -> None:
    assert "3 free" in str(judged(rows(waiting=0.8), cores=6, threads=1, device="cpu"))
    assert "all in use" in str(judged(rows(waiting=0.8), cores=6, threads=4, device="cpu"))


def test_no_workers_at_all() -> None:
    found = judged(rows(waiting=0.6), workers=0)
    assert "images are prepared between the steps" in found.sentence
    assert "add 2 more workers (--workers 2)" in found.sentence  # 0.6 of preparing in 0.4 of computing: 1.5


def test_always_waiting_divides_by_nothing() -> None:
    assert judged(rows(waiting=1.0)).bound == "waiting"


def test_a_resident_set_is_not_told_to_be_resident() -> None:
    found = verdict(rows(waiting=0.3), GPU, resident=True)
    assert found is not None
    assert "--resident" not in found.sentence
    assert "worker" not in found.sentence
    assert "lighter --augment" in found.sentence
    idle = verdict(rows(flops_share=0.1), GPU | {"device": "cpu", "cores": 2, "threads": 1}, resident=True)
    assert "OMP_NUM_THREADS; 1 of 2 cores now" in str(idle)  # no worker needs the other core


def test_copying() -> None:
    found = judged(rows(copying=0.14))
    assert found.bound == "copying"
    assert "moving batches to the device takes 14\u00a0% of the time" in found.sentence


def test_communicating() -> None:
    found = judged(rows(communicating=0.18, waiting=0.12))
    assert found.bound == "communicating"  # the larger of the two
    assert "waits for other processes for 18\u00a0% of the time: a larger --batch" in found.sentence


def test_communicating_that_is_null_counts_as_none() -> None:
    assert judged(rows(communicating=None)).bound == "computing"


def test_computing_names_the_share_of_the_peak() -> None:
    found = judged(rows())
    assert found.bound == "computing"
    assert found.sentence.startswith(
        "Compute-bound: the step uses 47\u00a0% of the measured peak of A fast device (700\u00a0TFLOP/s in bfloat16)"
    )
    assert found.memory == ""


def test_computing_that_does_not_fill_the_device() -> None:
    assert "a larger --batch" in judged(rows(flops_share=0.06)).sentence
    cpu = judged(rows(flops_share=0.06), device="cpu", cores=4, threads=1, workers=1)
    assert "OMP_NUM_THREADS; 1 of 4 cores now" in cpu.sentence
    assert "OMP_NUM_THREADS" not in judged(rows(flops_share=0.06), device="cpu", cores=2, threads=1, workers=1).sentence


def test_just_below_and_at_the_threshold() -> None:
    assert judged(rows(waiting=0.099)).bound == "computing"
    assert judged(rows(waiting=0.10)).bound == "waiting"


def test_memory_that_is_nearly_full_is_a_second_sentence() -> None:
    found = judged([*rows(4), row(250, memory_gib=73.5)])
    assert found.memory.startswith("Memory is nearly full (73.5 of 80 GiB): --micro-batch or --recompute")
    assert str(found).endswith(found.memory)
    assert judged(rows(memory_gib=71.0)).memory == ""
    assert judged(rows(memory_gib=None)).memory == ""
    assert judged(rows(memory_gib=79.0), memory_gib=None).memory == ""


def test_the_start_is_left_out() -> None:
    slow = [row(50, images_per_second=8.0, waiting=0.9), row(100, images_per_second=200.0, waiting=0.9)]
    assert steady([*slow, *(row(50 * i) for i in range(3, 8))])[0]["step"] == 150
    assert judged([*slow, *(row(50 * i) for i in range(3, 8))]).bound == "computing"


def test_a_slow_stretch_later_counts() -> None:
    log = [*(row(50 * i) for i in range(1, 6)), row(300, images_per_second=8.0, waiting=0.95)]
    assert judged(log).bound == "waiting"  # that row took most of the time


def test_one_row_is_judged_and_says_so() -> None:
    found = judged(rows(1, waiting=0.5))
    assert found.bound == "waiting"
    assert found.sentence.endswith("(from the first steps alone, which include the start).")
    assert "first steps alone" not in judged(rows(2, waiting=0.5)).sentence


def test_a_resumed_run_is_judged_by_its_last_session() -> None:
    before = rows(20, waiting=0.7)
    after = [row(1000 + 50 * (i + 1), session=1) for i in range(3)]
    assert judged([*before, *after]).bound == "computing"
    assert judged(before).bound == "waiting"
    assert "first steps alone" in judged([*before, after[0]]).sentence


def test_a_log_without_sessions_counts_as_one() -> None:
    log = [{key: value for key, value in each.items() if key != "session"} for each in rows(5, waiting=0.4)]
    assert len(steady(log)) == 4
    assert judged(log).bound == "waiting"


@pytest.mark.parametrize("log", [[], [{"kind": "train", "step": 5, "loss": 1.0}], rows(2, images_per_second=0.0)])
def test_nothing_to_judge(log: list[dict[str, Any]]) -> None:
    assert verdict(log, GPU) is None


def test_an_empty_environment_still_gives_a_sentence() -> None:
    for log in (rows(), rows(waiting=0.4), rows(flops_share=None), rows(flops_share=0.1)):
        found = verdict(log, {})
        assert found is not None
        assert "None" not in found.sentence
        assert ": ." not in found.sentence


def test_rows_count_by_their_time() -> None:
    used = usage([row(50, images_per_second=100.0, waiting=0.8), row(100, images_per_second=900.0, waiting=0.0)])
    assert used is not None
    assert used.images_per_second == pytest.approx(180)  # two equal parts: the harmonic mean
    assert used.waiting == pytest.approx(0.72)  # nine tenths of the time were spent in the slow part
