"""`vitrail serve`: labels over HTTP."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vitrail.commands.parsing import Command, Common, Runtime, parse


def run(args: list[str]) -> int:
    """`vitrail serve`; returns the exit code when a signal has ended it."""
    import tyro

    from vitrail.core.errors import BadInput
    from vitrail.core.pool import usable_cores
    from vitrail.core.progress import say
    from vitrail.report.page import style
    from vitrail.serve.http.limits import Limits

    try:
        import uvicorn  # noqa: F401

        from vitrail.serve.http.life import Life, Serve
    except ImportError as problem:
        raise BadInput(f"serving needs {problem.name}: pip install 'vitrail[serve]'") from None

    @dataclass(frozen=True)
    class Options:
        models: Annotated[tuple[str, ...], tyro.conf.Positional] = ()  # a bundle, a run folder, any MODEL
        host: str = "127.0.0.1"  # address to listen at; 0.0.0.0 is everybody's: give --token-file too
        port: int = 8000
        runtime: Runtime = "auto"  # what computes the models; auto: the fastest here
        devices: tuple[str, ...] = ("auto",)  # each computes its own batches
        watch: Path | None = None  # a folder of bundles to serve; new versions replace old ones
        neighbours: str | None = None  # DATA whose most similar images are shown; features are made once
        collect: Path | None = None  # a folder that keeps what people mark as wrong, for `vitrail finetune`
        collect_mb: float = 1024.0  # MiB of it at most
        token_file: Path | None = None  # a file with the token that requests must bear; or VITRAIL_TOKEN
        names: tuple[str, ...] = ()  # of this server behind a proxy, as in example.com
        decoders: int | None = None  # processes that decode; None: half of the cores
        quiet: bool = False  # no line for each request
        limits: Annotated[Limits, tyro.conf.arg(name="")] = Limits()
        common: Annotated[Common, tyro.conf.arg(name="")] = Common()

    options = parse(COMMAND, Options, args)
    token = os.environ.get("VITRAIL_TOKEN")
    if options.token_file is not None:
        token = options.token_file.read_text().strip()
    if token is not None and len(token) < 16:
        raise BadInput("the token is shorter than 16 characters: `openssl rand -hex 32` makes one")
    options.common.find_data()
    config = Serve(
        options.models,
        options.host,
        options.port,
        options.runtime,
        options.devices if options.devices != ("auto",) else (options.common.device,),
        options.watch,
        options.neighbours,
        options.collect,
        options.collect_mb,
        token,
        options.names,
        options.decoders or max(1, usable_cores() // 2),
        options.limits,
        not options.quiet,
    )
    life = Life(config, style())
    shown = f"[{options.host}]" if ":" in options.host else options.host
    say(f"vitrail serves at http://{shown}:{life.port}/ (Ctrl-C ends it)")
    if options.host not in ("127.0.0.1", "localhost", "::1") and token is None:
        say("everybody who reaches this machine may ask it: no token was given")
    life.run()
    return 0


COMMAND = Command(
    "serve",
    "Labels over HTTP, with a page.",
    "vitrail serve runs/photos\n  vitrail serve runs/photos runs/birds --port 9000 --token-file token.txt",
    run,
    first=("models", "host", "port", "runtime", "watch", "token_file"),
)
