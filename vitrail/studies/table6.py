"""The paper's own scaling study: laws fitted to its Table 6."""

from statistics import mean

from vitrail.core.estimate import Estimate
from vitrail.recipes.paper import paper
from vitrail.studies.engine.floor import laws_alike
from vitrail.studies.engine.power_law import PowerLaw, ratio_at_equal

FAMILIES = ("ViT", "ResNet", "hybrid")
AVERAGE5 = ("ImageNet", "CIFAR-10", "CIFAR-100", "Oxford-IIIT Pets", "Oxford Flowers-102")


def paper_laws() -> dict[str, PowerLaw]:
    """The error in Average-5 of Table 6 over exaFLOPs; with floors, as that of ViTs shows one."""
    return laws_alike({family: table6(family) for family in FAMILIES})


def paper_ratios() -> dict[str, Estimate]:
    """The compute that the ResNets and hybrids of Table 6 need, in that of ViTs, for the same error in Average-5."""
    laws = paper_laws()
    ratios = {family: ratio_at_equal(laws["ViT"], laws[family]) for family in FAMILIES[1:]}
    return {family: ratio for family, ratio in ratios.items() if ratio is not None}


def table6(family: str) -> tuple[list[float], list[float]]:
    """The exaFLOPs of a family in Table 6, and the error in Average-5, as a share."""
    rows = [row for row in paper("table6").records() if row["family"] == family]
    return [float(row["exaFLOPs"]) for row in rows], [1 - mean(row[name] for name in AVERAGE5) / 100 for row in rows]
