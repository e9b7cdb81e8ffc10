"""The Debian package. A module, not a command."""

import gzip
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import manual
from release import ABSTRACT, Failure, Release, run

DESCRIPTION = """\
Sluice reads a Hugging Face model folder and writes compressed-tensors shards
that vLLM loads. It works through one decoder layer at a time on a CPU, keeps
within the memory that it is given, and goes on after any interruption with
the same bytes at the end."""
# The program opens this library itself, so nothing in it says so.
OPENBLAS = "libopenblas0"
SHELLS = {"bash": "usr/share/bash-completion/completions/sluice", "zsh": "usr/share/zsh/vendor-completions/_sluice",
          "fish": "usr/share/fish/vendor_completions.d/sluice.fish"}


def make(build, folder):
    """Writes the package into `folder`; returns its path."""
    for tool in ("dpkg-deb", "dpkg-shlibdeps", "dpkg"):
        if not shutil.which(tool):
            raise Failure(f"`{tool}` is not on the PATH; a Debian package is made on Debian, with its package dpkg-dev")
    release = Release(build)
    architecture = run("dpkg", "--print-architecture").strip()
    result = folder / f"sluice_{release.debian}_{architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="sluice-deb-") as temporary:
        # Where dpkg-shlibdeps expects a package, and how it knows one.
        root = Path(temporary) / "debian/sluice"
        (root / "DEBIAN").mkdir(parents=True)
        for path, content in files(release).items():
            write(root / path, content)
        write(root / "usr/bin/sluice", release.program.read_bytes())
        write(root / "DEBIAN/control", control(release, architecture, root))
        write(root / "DEBIAN/md5sums", checksums(root))
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or path == root / "usr/bin/sluice" else 0o644)
        # dpkg-deb takes times that are later than this for this one; no file here is earlier.
        run("dpkg-deb", "--build", "--root-owner-group", "-Zxz", root, result,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(release.time)})
    return result


def files(release):
    """Path -> content of everything but the program."""
    documents = "usr/share/doc/sluice"
    result = {shell_file: release.completions(shell) for shell, shell_file in SHELLS.items()}
    for name, text in manual.pages(release.commands(), release).items():
        result[f"usr/share/man/man1/{name}.gz"] = packed(text)
    result[f"{documents}/copyright"] = copyright_file(release)
    result[f"{documents}/changelog.gz"] = packed(changelog(release))
    result[f"{documents}/examples/sluice@.service"] = Path(__file__).with_name("sluice@.service").read_text()
    # lintian wants LibYAML from its package; Yams compiles a copy.
    result["usr/share/lintian/overrides/sluice"] = "sluice: embedded-library libyaml [usr/bin/sluice]\n"
    return result


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def packed(text):
    return gzip.compress(text.encode(), 9, mtime=0)


def maintainer():
    name, address = os.environ.get("DEBFULLNAME", "Sluice"), os.environ.get("DEBEMAIL", "sluice@localhost")
    return f"{name} <{address}>"


def control(release, architecture, root):
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    fields = {
        "Package": "sluice",
        "Version": release.debian,
        "Architecture": architecture,
        "Maintainer": maintainer(),
        "Installed-Size": -(-size // 1024),
        "Depends": ", ".join(sorted([*libraries(root / "usr/bin/sluice"), OPENBLAS])),
        "Section": "science",
        "Priority": "optional",
        "Description": ABSTRACT,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + "".join(
        f" {line}\n" for line in DESCRIPTION.splitlines())


def libraries(program):
    """The packages of the libraries that a program in `debian/sluice` is linked with."""
    folder = next(path for path in program.parents if path.name == "debian")
    write(folder / "control", "Source: sluice\n\nPackage: sluice\nArchitecture: any\n")
    text = run("dpkg-shlibdeps", "-O", program, cwd=folder.parent)
    match = re.search(r"shlibs:Depends=(.*)", text)
    if not match:
        raise Failure(f"dpkg-shlibdeps names no libraries (found `{text.strip()}`)")
    return match[1].split(", ")


def checksums(root):
    return "".join(
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"
        for path in sorted((root / "usr").rglob("*")) if path.is_file())


def changelog(release):
    """What Debian asks for; what changed for users is on the page that it names."""
    day = release.date.strftime("%a, %d %b %Y %H:%M:%S +0000")
    return (f"sluice ({release.debian}) unstable; urgency=medium\n\n"
            f"  * Built from commit {release.commit}. CHANGELOG.md there tells what changed.\n\n"
            f" -- {maintainer()}  {day}\n")


def copyright_file(release):
    """Sluice's licence, and those of what is linked into the program. Debian has the text of the Apache License."""
    apache = "/usr/share/common-licenses/Apache-2.0"
    parts = [f"Sluice\n\nCopyright 2026 the authors of Sluice. Licensed under the Apache License, Version 2.0: see {apache}."]
    for name, what, text in release.licences():
        if name == "LICENSE":
            continue
        if "Apache License" in text:
            text = f"Licensed under the Apache License, Version 2.0: see {apache}.\n\n" + text[text.index("## Runtime"):]
        parts.append(f"Linked into the program: {what}\n\n{text.strip()}")
    return ("\n\n" + "-" * 78 + "\n\n").join(parts) + "\n"
