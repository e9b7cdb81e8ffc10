"""The Python wheel: the program, the libraries that it needs, and the module in `module/`. A module, not a command.

The program goes where pip puts scripts, its libraries beside that, in `lib/sluice`, where its run path finds them: a
virtual environment, `~/.local` and `/usr/local` all have `bin` and `lib` side by side.
"""

import base64
import hashlib
import re
import shutil
import time
import zipfile
from pathlib import Path

import manual
from release import ABSTRACT, Failure, Release, run

# In the old form the run path counts for what the libraries need themselves, too.
RUN_PATH = ("--disable-new-dtags", "-rpath=$ORIGIN/../lib/sluice")
# What every Linux with glibc has (PEP 599, PEP 600).
SYSTEM = re.compile(r"(ld-linux.*|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libz)\.so\.\d+$")
# The program opens this one itself.
OPENBLAS = "libopenblas.so.0"
# The C++ library comes with its compiler, the compiler with a system: the first glibc beside each version.
GLIBCXX = {"3.4.29": "2.34", "3.4.30": "2.35", "3.4.31": "2.38", "3.4.32": "2.38", "3.4.33": "2.41", "3.4.34": "2.42"}
# Of Sluice and the built-in chats; of what is linked in; of OpenBLAS, zstd, Oniguruma, snappy and GCC's libraries.
LICENCE = ("Apache-2.0 AND CC0-1.0 AND PSF-2.0 AND MIT AND Unicode-3.0 AND BSD-3-Clause AND BSD-2-Clause "
           "AND LGPL-2.1-or-later AND GPL-3.0-or-later WITH GCC-exception-3.1")
SHELLS = {"bash": "share/bash-completion/completions/sluice", "zsh": "share/zsh/site-functions/_sluice",
          "fish": "share/fish/vendor_completions.d/sluice.fish"}


def make(build, folder):
    """Writes the wheel into `folder`; returns its path."""
    for tool in ("ldd", "ldconfig", "objdump", "dpkg"):
        if not shutil.which(tool):
            raise Failure(f"`{tool}` is not on the PATH; a wheel is made on Debian, with its package binutils")
    release = Release(build, *RUN_PATH)
    bundled = libraries(release.program)
    machine = run("uname", "-m").strip()
    tag = f"py3-none-manylinux_{glibc([release.program, *bundled.values()]).replace('.', '_')}_{machine}"
    name = f"sluice-{release.python}"
    data, information = f"{name}.data", f"{name}.dist-info"

    content = {f"{data}/scripts/sluice": release.program.read_bytes()}
    content |= {f"{data}/data/lib/sluice/{soname}": path.read_bytes() for soname, path in bundled.items()}
    content |= {f"{data}/data/{path}": release.completions(shell).encode() for shell, path in SHELLS.items()}
    content |= {f"{data}/data/share/man/man1/{page}": text.encode()
                for page, text in manual.pages(release.commands(), release).items()}
    content |= {f"sluice/{path.name}": path.read_bytes() for path in (Path(__file__).parent / "module").iterdir() if path.is_file()}
    content["sluice/_options.py"] = options_module(release.commands()).encode()
    licences = {licence: text for licence, _, text in release.licences()} | library_licences(bundled.values())
    content |= {f"{information}/licenses/{licence}": text.encode() for licence, text in licences.items()}
    content[f"{information}/METADATA"] = metadata(release, licences).encode()
    content[f"{information}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: sluice tools/package\nRoot-Is-Purelib: false\nTag: {tag}\n".encode())

    result = folder / f"{name}-{tag}.whl"
    write(result, content, f"{information}/RECORD", release.time)
    return result


def write(path, content, record, seconds):
    lines = [f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(value).digest()).rstrip(b'=').decode()},{len(value)}"
             for name, value in sorted(content.items())]
    content = dict(sorted(content.items())) | {record: "".join(f"{line}\n" for line in [*lines, f"{record},,"]).encode()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        for name, value in content.items():
            entry = zipfile.ZipInfo(name, time.gmtime(seconds)[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (0o100755 if "/scripts/" in name else 0o100644) << 16
            wheel.writestr(entry, value)


def libraries(program):
    """Name -> file of each library that is not on every system, with what these need in turn."""
    known = dict(re.findall(r"(\S+) \(.*\) => (/\S+)", run("ldconfig", "-p")))
    if OPENBLAS not in known:
        raise Failure(f"`{OPENBLAS}` is not there; tools/setup installs it")
    found = {OPENBLAS: known[OPENBLAS]}
    for start in (program, known[OPENBLAS]):
        text = run("ldd", start)
        missing = re.findall(r"(\S+) => not found", text)
        if missing:
            raise Failure(f"`{start}` needs {', '.join(missing)}, which is not there; tools/setup installs what it needs")
        found |= dict(re.findall(r"(\S+) => (/\S+)", text))
    return {name: Path(path).resolve() for name, path in sorted(found.items()) if not SYSTEM.match(name)}


def glibc(files):
    """The oldest glibc that has every symbol that these files want, and comes with such a C++ library."""
    found = set()
    for path in files:
        text = run("objdump", "-p", path)
        found |= set(re.findall(r"\bGLIBC_(\d+\.\d+)", text))
        for version in set(re.findall(r"\bGLIBCXX_(\d+\.\d+\.\d+)", text)):
            if number(version) >= number("3.4.29"):
                if version not in GLIBCXX:
                    raise Failure(f"`{path}` wants GLIBCXX_{version}, newer than tools/packaging/wheel.py knows; add it there")
                found.add(GLIBCXX[version])
    return max(found, key=number)


def number(version):
    return tuple(int(part) for part in version.split("."))


def library_licences(paths):
    """Debian's words on the packages that the libraries are from."""
    result = {}
    for path in paths:
        # Since Debian 12 the same file may have a name below /usr and one without.
        owner = next((text for name in (path, str(path).removeprefix("/usr"))
                      if (text := run("sh", "-c", f"dpkg -S '{name}' 2>/dev/null || true"))), None)
        if not owner:
            raise Failure(f"`{path}` is of no Debian package, so its licence is not known; install Debian's")
        package = owner.split(":")[0]
        result[f"{package}.copyright"] = Path(f"/usr/share/doc/{package}/copyright").read_text()
    return result


def metadata(release, licences):
    fields = [("Metadata-Version", "2.4"), ("Name", "sluice"), ("Version", release.python),
              ("Summary", ABSTRACT[0].upper() + ABSTRACT[1:]), ("License-Expression", LICENCE),
              *(("License-File", licence) for licence in sorted(licences)), ("Requires-Python", ">=3.9"),
              ("Keywords", "quantization,awq,compressed-tensors,moe,vllm"),
              ("Classifier", "Operating System :: POSIX :: Linux"), ("Classifier", "Typing :: Typed"),
              ("Description-Content-Type", "text/markdown")]
    readme = """\
`pip install` brings the command `sluice`, its manual pages and completions, and a small typed module that runs it:

```python
import sluice

sluice.oneshot("zai-org/GLM-4.7", "GLM-4.7-W4A16", dataset="chats.jsonl", memory="8GiB")
report = sluice.verify("GLM-4.7-W4A16", source="zai-org/GLM-4.7")
```
"""
    return "".join(f"{name}: {value}\n" for name, value in fields) + "\n" + readme


# What the functions of the module take by names of their own.
NAMED = {"quantize": ("output", "recipe", "calibration", "log"), "plan": ("recipe", "calibration", "json"),
         "verify": ("source", "json", "log"), "evaluate": ("text", "reference", "json", "log")}


def options_module(program):
    """Types of the options, for whoever checks or completes a call."""
    lines = ['"""Options of the commands; made from their definitions."""', "",
             "import os", "from collections.abc import Sequence", "from typing import TypedDict, Union", "",
             'Value = Union[str, int, float, "os.PathLike[str]"]']
    for command in program["subcommands"]:
        name = command["commandName"]
        if name not in NAMED:
            continue
        lines += ["", "", f"class {name.capitalize()}Options(TypedDict, total=False):"]
        for argument in command["arguments"]:
            option = next(iter(manual.long_names(argument)), None)
            if option is None or option in ("help", "version", *NAMED[name]):
                continue
            kind = ("bool" if argument["kind"] == "flag" else "Union[Value, Sequence[Value]]" if argument["isRepeating"]
                    else "Value")
            lines += [f"    {option.replace('-', '_')}: {kind}", f"    {argument['abstract']!r}"]
    return "\n".join(lines) + "\n"
