#!/usr/bin/env python3
"""Imports against Package.swift, which SwiftPM itself does not check.

- A target depends only on targets declared above it, and imports only what it declares.
- Every declared dependency is used.
- One Swift file of a target speaks to a system C library (SYSTEM_LIBRARIES).
- A folder of Sources holds at most MOST_FILES Swift files.
- Library targets do without Foundation; C kernels know nothing of the other targets.

`--self-test` plants a violation of each kind and insists that it is found.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_LIBRARIES = {
    # One keeps frames of known size, the other reads streams of any.
    "CZstd": {"Sources/Run/ScratchStore/ZstdFrame.swift", "Sources/Text/Datasets/Decompression.swift"},
    "CZlib": {"Sources/Text/Datasets/Decompression.swift", "Sources/Files/SystemIO/Checksum.swift"},
    "CSnappy": {"Sources/Text/Datasets/Decompression.swift"},
    "COniguruma": {"Sources/Files/Expressions/Expression.swift"},
    "CLinux": {"Sources/Files/SystemIO/AppendedFile.swift", "Sources/Files/SystemIO/ExchangeNames.swift", "Sources/Files/SystemIO/FileLock.swift", "Sources/Files/SystemIO/Machine/MachineShare.swift", "Sources/Files/SystemIO/Machine/ProcessLimits.swift", "Sources/Files/SystemIO/Machine/ResidentMemory.swift"},
}
MOST_FILES = 16
# What the toolchain brings. Foundation is left out on purpose.
TOOLCHAIN = {"Swift", "Glibc", "Synchronization", "Dispatch", "Testing", "_RegexParser", "PackagePlugin"}
IMPORT = re.compile(
    r"^\s*(?:@\w+(?:\([^)]*\))?\s+)*(?:(?:public|package|internal|fileprivate|private)\s+)?"
    r"import\s+(?:(?:struct|class|enum|protocol|typealias|func|let|var)\s+)?(\w+)"
)


def violations(targets, imports):
    """Sentences about what is wrong; none when all is well.

    targets: in order of declaration, (name, kind, names of targets, names of products);
             kind as in the manifest: system-target, regular, executable, test.
    imports: (path of a Swift file, target, line number, module).
    """
    found = []
    declared = {}
    kinds = {name: kind for name, kind, _, _ in targets}
    for name, kind, dependencies, products in targets:
        for other in dependencies:
            if other not in kinds:
                found.append(f"Package.swift: {name} depends on {other}, which is not there")
            elif other not in declared:
                found.append(f"Package.swift: {name} depends on {other}, declared below it")
        declared[name] = (set(dependencies), set(products))

    used = {}
    users = {}
    for path, target, line, module in imports:
        dependencies, products = declared[target]
        used.setdefault(target, set()).add(module)
        if module == target or module in TOOLCHAIN or module in products:
            pass
        elif module.startswith("Foundation"):
            if kinds[target] == "regular":
                found.append(f"{path}:{line}: {module} in a library target")
        elif module not in dependencies:
            found.append(f"{path}:{line}: imports {module}, which {target} does not declare")
        if module in SYSTEM_LIBRARIES:
            users.setdefault(module, set()).add(path)

    for library, owners in SYSTEM_LIBRARIES.items():
        for path in sorted(users.get(library, set()) - owners):
            found.append(f"{path}: imports {library}; only {', '.join(sorted(owners))} may")
        for owner in sorted(owners - users.get(library, set())):
            if kinds.keys() & set(owner.split("/")):
                found.append(f"{owner}: expected to import {library}; update {Path(__file__).name}")

    for name, kind, dependencies, _ in targets:
        for other in dependencies:
            # Tests of the program run it; they do not import it.
            if other not in used.get(name, set()) and kinds.get(other) != "executable":
                if kind != "system-target" and name in used:
                    found.append(f"Package.swift: {name} declares {other} and never imports it")
    return found


def manifest():
    text = subprocess.run(
        ["swift", "package", "dump-package"], cwd=ROOT, check=True, stdout=subprocess.PIPE
    ).stdout
    package = json.loads(text)
    local = {target["name"] for target in package["targets"]}
    targets = []
    for target in package["targets"]:
        names, products = [], []
        for dependency in target["dependencies"]:
            kind, value = next(iter(dependency.items()))
            is_target = kind == "target" or (kind == "byName" and value[0] in local)
            (names if is_target else products).append(value[0])
        targets.append((target["name"], target["type"], names, products))
    paths = {
        target["name"]: target.get("path")
        or ("Tests/" if target["type"] == "test" else "Sources/") + target["name"]
        for target in package["targets"]
    }
    return targets, paths


def read_imports(paths):
    for target, folder in paths.items():
        for file in sorted((ROOT / folder).rglob("*.swift")):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = IMPORT.match(line)
                if match:
                    yield str(file.relative_to(ROOT)), target, number, match[1]


def crowded_folders():
    """Folders whose files nobody finds at a glance."""
    for folder in sorted(path for path in ROOT.glob("Sources/**") if path.is_dir()):
        count = sum(1 for _ in folder.glob("*.swift"))
        if count > MOST_FILES:
            yield f"{folder.relative_to(ROOT)}: {count} Swift files; more than {MOST_FILES} want folders"


def stray_sources(paths):
    """Swift files that no target compiles."""
    for file in sorted([*ROOT.glob("Sources/**/*.swift"), *ROOT.glob("Tests/**/*.swift")]):
        relative = file.relative_to(ROOT)
        if not any(relative.is_relative_to(folder) for folder in paths.values()):
            yield f"{relative}: belongs to no target of Package.swift"


def self_test():
    targets = [
        ("CZstd", "system-target", [], []),
        ("JSON", "regular", [], []),
        ("ScratchStore", "regular", ["CZstd"], []),
        ("Models", "regular", ["JSON"], []),
        ("sluice", "executable", ["Models"], ["ArgumentParser"]),
        ("EndToEndTests", "test", ["sluice", "JSON"], []),
    ]
    imports = [
        ("Sources/Run/ScratchStore/ZstdFrame.swift", "ScratchStore", 1, "CZstd"),
        ("Sources/Models/A.swift", "Models", 1, "JSON"),
        ("Sources/sluice/A.swift", "sluice", 1, "ArgumentParser"),
        ("Sources/sluice/A.swift", "sluice", 2, "Models"),
        ("Tests/EndToEndTests/A.swift", "EndToEndTests", 1, "JSON"),
        ("Tests/EndToEndTests/A.swift", "EndToEndTests", 2, "Testing"),
    ]
    planted = [
        ("nothing", [], [], None),
        ("an import upwards", [], [("Sources/JSON/A.swift", "JSON", 3, "Models")],
         "Sources/JSON/A.swift:3: imports Models, which JSON does not declare"),
        ("an import through another target", [], [("Sources/sluice/A.swift", "sluice", 3, "JSON")],
         "Sources/sluice/A.swift:3: imports JSON, which sluice does not declare"),
        ("a dependency on a later target", [("Early", "regular", ["Late"], []),
                                            ("Late", "regular", [], [])], [],
         "Package.swift: Early depends on Late, declared below it"),
        ("a dependency that nobody uses", [("Late", "regular", ["JSON"], [])],
         [("Sources/Late/A.swift", "Late", 1, "Glibc")],
         "Package.swift: Late declares JSON and never imports it"),
        ("a second user of a system library", [],
         [("Sources/Run/ScratchStore/B.swift", "ScratchStore", 1, "CZstd")],
         "Sources/Run/ScratchStore/B.swift: imports CZstd; only Sources/Run/ScratchStore/ZstdFrame.swift, "
         "Sources/Text/Datasets/Decompression.swift may"),
        ("Foundation in a library", [], [("Sources/JSON/A.swift", "JSON", 2, "FoundationEssentials")],
         "Sources/JSON/A.swift:2: FoundationEssentials in a library target"),
    ]
    for what, more_targets, more_imports, sentence in planted:
        found = violations(targets + more_targets, imports + more_imports)
        if found != ([sentence] if sentence else []):
            sys.exit(f"error: self-test, {what}: expected {sentence!r}, found {found}")
    lines = {
        "package import Tensors": "Tensors", "import struct JSON.JSONValue": "JSON",
        "@preconcurrency internal import Glibc": "Glibc", "// import JSON": None,
        "important()": None,
    }
    for line, module in lines.items():
        match = IMPORT.match(line)
        if (match[1] if match else None) != module:
            sys.exit(f"error: self-test: `{line}` was not read as an import of {module}")
    print(f"{len(planted) - 1} planted violations found, none where there is none")


def main():
    if sys.argv[1:] == ["--self-test"]:
        self_test()
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    targets, paths = manifest()
    imports = list(read_imports(paths))
    found = violations(targets, imports) + [*stray_sources(paths), *crowded_folders()]
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"{len(targets)} targets, {len(imports)} imports: as declared")


if __name__ == "__main__":
    main()
