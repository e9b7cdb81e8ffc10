"""Installs the packages in a bare Debian and uses what they bring. A module, not a command."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release import ROOT, Failure, run

FOLDER = Path(__file__).parent
MODEL, DATA = ROOT / "fixtures/glm4-moe-4m", ROOT / "fixtures/calibration.jsonl"
QUANTIZE = "--calibration ids.jsonl --samples 8 --memory 128MiB --threads 2"
# None of them may be there before the wheel is tried.
LIBRARIES = re.compile(r"libopenblas|libonig|libsnappy|libgfortran|libswift")
SHELLS = ["bash-completion", "zsh", "fish", "man-db", "systemd"]


def check():
    """What the trial wants of this machine, before anything is built."""
    if os.geteuid() != 0:
        raise Failure("`test` makes a Debian root, and needs root for that; run it with sudo")
    for tool in ("debootstrap", "unshare", "chroot"):
        if not shutil.which(tool):
            raise Failure(f"`{tool}` is not on the PATH; apt-get install debootstrap util-linux")


def step(text):
    print(f"== {text}", flush=True)


def insist(condition, text):
    if not condition:
        raise Failure(text)


class Root:
    """A bare Debian in a folder."""

    def __init__(self, folder, name):
        self.folder = folder
        run("debootstrap", "--variant=minbase", name, folder)
        shutil.copy("/etc/resolv.conf", folder / "etc/resolv.conf")
        self.run("useradd --create-home user")

    def run(self, script, user="root"):
        """The output of a shell script inside, with its errors; it must succeed."""
        home = "/root" if user == "root" else f"/home/{user}"
        # The mounts are this process's own, and end with it.
        inside = (f"mount -t proc proc {self.folder}/proc && mount --bind /dev {self.folder}/dev && exec chroot {self.folder} "
                  f"/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME={home} LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "
                  f'setpriv --reuid={user} --regid={user} --clear-groups sh -euc \'cd "$HOME"; eval "$1"\' sh "$1"')
        result = subprocess.run(["unshare", "--mount", "sh", "-c", inside, "sh", script], text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        insist(result.returncode == 0, f"in the bare Debian, `{script}` failed with {result.returncode}:\n"
                                       f"{result.stdout[-3000:]}")
        return result.stdout

    def install(self, *packages):
        self.run(f"apt-get install -y -qq --no-install-recommends {' '.join(packages)}")

    def hash(self, output):
        return hash_of(self.folder / "home/user" / output)


def hash_of(output):
    """Of everything that a run writes for others, without the card, to which `evaluate` adds."""
    total = hashlib.sha256()
    files = sorted(path for path in output.iterdir() if path.is_file() and path.name != "README.md")
    insist(any(path.suffix == ".safetensors" for path in files), f"`{output}` has no shards")
    for path in files:
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()


def run_all(deb, wheel, program, name):
    name = name or run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").strip()
    with tempfile.TemporaryDirectory(prefix="sluice-package-") as temporary:
        folder = Path(temporary)
        shutil.copytree(MODEL, folder / "GLM")
        shutil.copy(DATA, folder / "ids.jsonl")
        run(program, "quantize", "GLM", "--output", "out", *QUANTIZE.split(), cwd=folder, stderr=subprocess.DEVNULL)
        expected = hash_of(folder / "out")

        step(f"a bare Debian: {name}")
        root = Root(folder / "root", name)
        for source in (deb, wheel, FOLDER / "use_module.py", DATA):
            shutil.copy(source, root.folder / "home/user" / ("ids.jsonl" if source == DATA else source.name))
        shutil.copytree(MODEL, root.folder / "home/user/GLM")
        root.run("chown -R user: ~user")
        try_wheel(root, wheel.name, expected)
        try_types(folder, wheel)
        try_deb(root, deb.name, expected)
    step("done")


def try_wheel(root, wheel, expected):
    step("the wheel, in a bare virtual environment")
    root.install("python3-venv")
    found = LIBRARIES.findall(root.run("ldconfig -p"))
    insist(not found, f"the bare Debian has {found} before anything is installed")
    root.run("python3 -m venv v", "user")
    before = root.run("find v -type f | grep -v __pycache__ | sort", "user")
    print(root.run(f"v/bin/pip install --quiet --no-index ./{wheel} && v/bin/sluice --version", "user"), end="")
    root.run(f"v/bin/sluice quantize GLM --output cli {QUANTIZE}", "user")
    insist(root.hash("cli") == expected, "the wheel's program writes other bytes than the one it was made from")
    print(root.run("v/bin/python use_module.py", "user"), end="")
    insist(root.hash("module") == expected, "the module writes other bytes than the program")
    insist("quantize" in root.run("v/bin/python -m sluice --help", "user"), "`python -m sluice` is not the program")

    root.run("v/bin/pip uninstall --quiet --yes sluice", "user")
    after = root.run("find v -type f | grep -v __pycache__ | sort", "user")
    insist(after == before, f"pip leaves files: {sorted(set(after.split()) ^ set(before.split()))}")


def try_types(folder, wheel):
    """What a type checker makes of the module. Outside of the bare Debian: pip may have settings of this system's own."""
    step("types")
    programs = folder / "types/bin"
    run(sys.executable, "-m", "venv", programs.parent)
    run(programs / "pip", "install", "--quiet", "mypy", wheel)
    run(programs / "mypy", "--strict", FOLDER / "use_module.py", cwd=folder)
    run(programs / "mypy", "--strict", "-p", "sluice", cwd=folder)
    wrong = "import sluice; sluice.oneshot('GLM', 'x', sampels=8)"
    said = run("sh", "-c", '"$0" -c "$1" || true', programs / "mypy", wrong, cwd=folder)
    insist('Unexpected keyword argument "sampels"' in said, f"mypy does not see a wrong option: {said}")


def try_deb(root, deb, expected):
    step("the Debian package")
    root.run(f"apt-get install -y -qq --no-install-recommends ~user/{deb}")
    print(root.run("sluice --version", "user"), end="")
    root.run(f"sluice quantize GLM --output deb {QUANTIZE} && sluice verify deb --source GLM", "user")
    insist(root.hash("deb") == expected, "the package's program writes other bytes than the one it was made from")

    step("manual pages, completions and the systemd unit")
    root.install(*SHELLS)
    insist("--expert-tokens" in root.run("man --warnings sluice-quantize", "user"), "no page for sluice-quantize")
    insist(not root.run("man --warnings sluice-quantize 2>&1 >/dev/null", "user"), "man warns about sluice-quantize")
    insist("evaluate [OPTIONS] model ... --text data" in root.run("man sluice-evaluate", "user"), "the synopsis has no `...`")
    insist("embed_tokens" in root.run("MANWIDTH=70 man sluice-quantize", "user"), "man breaks words in two")
    bash = """bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader sluice || true;
        COMP_WORDS=(sluice quantize --exp) COMP_CWORD=2 COMP_LINE="sluice quantize --exp" COMP_POINT=21;
        $(complete -p sluice | sed "s/.*-F //; s/ .*//") sluice --exp quantize; echo "${COMPREPLY[@]}"'"""
    zsh = "zsh -fc 'autoload -U compinit; compinit -D -u; echo $_comps[sluice]; autoload -U +X _sluice && echo loaded'"
    for command, word in [(bash, "--expert-tokens"), ("fish -c 'complete -C \"sluice quantize --exp\"'", "--expert-tokens"),
                          ("fish -c 'complete -C \"sluice requantize out --scheme NV\"'", "NVFP4A16"),
                          (zsh, "_sluice\nloaded")]:
        said = root.run(command, "user")
        insist(word in said, f"no completion by `{command}`: {said}")
    root.run("cp /usr/share/doc/sluice/examples/sluice@.service /etc/systemd/system/sluice@glm.service; "
             "mkdir -p /srv/models/glm; systemd-analyze verify sluice@glm.service")

    root.run("rm /etc/systemd/system/sluice@glm.service; apt-get purge -y -qq sluice")
    left = root.run("find / -xdev -name '*sluice*' -not -path '/home/*' -not -path '/proc/*' -not -path '/var/*'").split()
    insist(not left, f"the package leaves {left}")
