// swift-tools-version: 6.2
import PackageDescription

// Wings are folders of Sources, and targets are folders of a wing. Read from top to bottom: a target uses only what stands
// above it; tools/check_layers.py holds it to that.
let wings: [(folder: String, targets: [Target])] = [
  // The system libraries, and what is written in C.
  (
    "C",
    [
      .systemLibrary(name: "CLinux"),
      .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
      .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
      .systemLibrary(name: "CSnappy", pkgConfig: "snappy", providers: [.apt(["libsnappy-dev"])]),
      .systemLibrary(
        name: "COniguruma", pkgConfig: "oniguruma", providers: [.apt(["libonig-dev"])]),
      // Used with the trait MPI alone.
      .systemLibrary(name: "CMPI", pkgConfig: "mpi-c", providers: [.apt(["libopenmpi-dev"])]),
      // SIMD kernels. Optimised in debug builds too: the numeric tests are 30 to 350 times slower otherwise.
      .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3"])]),
      // Which file a page belongs to that cannot be read any more.
      .target(name: "CMappings"),
      // The calibration chats of a run that is given none.
      .target(name: "CBuiltinChats", exclude: ["LICENSE-PYTHON.txt", "chats.jsonl"]),
    ]
  ),
  // Files, and the values in them.
  (
    "Files",
    [
      .target(name: "SystemIO", dependencies: ["CLinux", "CMappings", "CZlib"]),
      .target(name: "Expressions", dependencies: ["COniguruma"]),
      .target(name: "JSON"),
      // Which version this is, and from which commit.
      .target(name: "Release", plugins: ["SourceCommit"]),
    ]
  ),
  // Rows of data sets, prompts, token ids.
  (
    "Text",
    [
      .target(name: "Tokenization", dependencies: ["Expressions", "JSON", "SystemIO"]),
      .target(name: "Datasets", dependencies: ["CSnappy", "CZlib", "CZstd", "JSON", "SystemIO"]),
      .target(
        name: "ChatTemplates",
        dependencies: ["JSON", "SystemIO", .product(name: "BigInt", package: "BigInt")]),
    ]
  ),
  // Matrices, memory, threads.
  (
    "Compute",
    [
      .target(name: "Tensors", dependencies: ["CKernels"]),
      .target(name: "LinearAlgebra", dependencies: ["CKernels", "Tensors"]),
    ]
  ),
  // Models as data, and the forward pass of one decoder layer.
  (
    "Model",
    [
      .target(name: "Transformer", dependencies: ["CKernels", "LinearAlgebra", "Tensors"]),
      .target(name: "Models", dependencies: ["JSON", "Transformer"]),
    ]
  ),
  // Statistics, scales, codes.
  (
    "Rounding",
    [
      .target(name: "Quantization", dependencies: ["CKernels", "LinearAlgebra", "Tensors"])
    ]
  ),
  // Tensors on disk: what is read and what is written.
  (
    "Checkpoints",
    [
      .target(name: "Safetensors", dependencies: ["JSON", "SystemIO", "Tensors"]),
      .target(
        name: "CompressedTensors",
        dependencies: [
          "CKernels", "Expressions", "JSON", "LinearAlgebra", "Models", "Quantization",
          "Safetensors",
          "SystemIO", "Tensors", "Transformer",
        ]),
      .target(
        name: "Recipes",
        dependencies: [
          "CompressedTensors", "JSON", "Quantization", "SystemIO",
          .product(name: "Yams", package: "Yams"),
        ]),
    ]
  ),
  // The run: what it needs, its steps, and what is told of it.
  (
    "Run",
    [
      .target(
        name: "Ranks",
        dependencies: [.byName(name: "CMPI", condition: .when(traits: ["MPI"])), "SystemIO"]),
      .target(
        name: "ScratchStore",
        dependencies: ["CKernels", "CZstd", "LinearAlgebra", "SystemIO", "Tensors"]),
      .target(
        name: "Calibration",
        dependencies: [
          "CBuiltinChats", "ChatTemplates", "Datasets", "JSON", "LinearAlgebra", "ScratchStore",
          "SystemIO", "Tensors", "Tokenization",
        ]),
      .target(name: "Planning", dependencies: ["JSON", "LinearAlgebra", "Tensors"]),
      .target(name: "Reporting", dependencies: ["JSON", "Planning"]),
      .target(
        name: "Pipeline",
        dependencies: [
          "Calibration", "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Planning",
          "Quantization", "Ranks", "Recipes", "Reporting", "Safetensors", "ScratchStore",
          "SystemIO", "Tensors", "Tokenization", "Transformer",
        ]),
    ]
  ),
]

// The command line.
let program: [Target] = [
  .executableTarget(
    name: "sluice",
    dependencies: [
      "Calibration", "ChatTemplates", "CompressedTensors", "Datasets", "JSON", "LinearAlgebra",
      "Models", "Pipeline", "Planning", "Quantization", "Ranks", "Recipes", "Release", "Reporting",
      "Safetensors", "SystemIO", "Tensors", "Transformer",
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ])
]

// What measures and attacks the other targets: tools/bench and tools/faults/fuzz run it.
let instruments: [Target] = [
  // Products beside the peak of the cores; what of a run fewer than all threads do.
  .target(name: "peaks", path: "tools/benching/peaks", cSettings: [.unsafeFlags(["-O3"])]),
  .executableTarget(
    name: "benching",
    dependencies: ["Calibration", "LinearAlgebra", "Pipeline", "Planning", "Tensors", "peaks"],
    path: "tools/benching/products"),
  // The parsers on hostile bytes: from libFuzzer's driver, or from files.
  .executableTarget(
    name: "fuzzing",
    dependencies: ["ChatTemplates", "Datasets", "JSON", "Safetensors", "SystemIO", "Tokenization"],
    path: "tools/faults/fuzzing",
    // The gold linker fails on two `main`s, SwiftPM's and libFuzzer's.
    linkerSettings: [.unsafeFlags(["-use-ld=lld"], .when(traits: ["Fuzzing"]))]),
]

// Tests, one target per target.
let tests: [Target] = [
  .target(
    name: "TestSupport",
    dependencies: [
      "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Quantization", "Safetensors",
      "SystemIO", "Tensors", "Transformer",
    ],
    path: "Tests/TestSupport"),
  // System calls that fail or kill, for LD_PRELOAD.
  .target(name: "CFaultShim", path: "Tests/CFaultShim", publicHeadersPath: "."),
  .testTarget(name: "CKernelsTests", dependencies: ["CKernels", "TestSupport"]),
  .testTarget(name: "SystemIOTests", dependencies: ["SystemIO", "TestSupport"]),
  .testTarget(name: "ExpressionsTests", dependencies: ["Expressions"]),
  .testTarget(name: "JSONTests", dependencies: ["JSON"]),
  .testTarget(name: "TensorsTests", dependencies: ["Tensors", "TestSupport"]),
  .testTarget(
    name: "DatasetsTests", dependencies: ["Datasets", "JSON", "SystemIO", "TestSupport"]),
  .testTarget(
    name: "ChatTemplatesTests", dependencies: ["ChatTemplates", "JSON", "SystemIO", "TestSupport"]),
  .testTarget(
    name: "TokenizationTests", dependencies: ["JSON", "SystemIO", "TestSupport", "Tokenization"]),
  .testTarget(
    name: "SafetensorsTests",
    dependencies: ["JSON", "Safetensors", "SystemIO", "Tensors", "TestSupport"]),
  .testTarget(
    name: "ScratchStoreTests",
    dependencies: ["LinearAlgebra", "ScratchStore", "SystemIO", "Tensors", "TestSupport"]),
  .testTarget(
    name: "LinearAlgebraTests", dependencies: ["LinearAlgebra", "Tensors", "TestSupport"]),
  .testTarget(
    name: "TransformerTests",
    dependencies: [
      "CompressedTensors", "LinearAlgebra", "Models", "Safetensors", "Tensors", "TestSupport",
      "Transformer",
    ]),
  .testTarget(
    name: "QuantizationTests",
    dependencies: [
      "CKernels", "Calibration", "CompressedTensors", "JSON", "LinearAlgebra", "Models",
      "Quantization",
      "Safetensors", "SystemIO", "Tensors", "TestSupport", "Transformer",
    ]),
  .testTarget(
    name: "RecipesTests",
    dependencies: ["CompressedTensors", "Quantization", "Recipes", "SystemIO", "TestSupport"]),
  .testTarget(
    name: "ModelsTests",
    dependencies: ["JSON", "Models", "Safetensors", "SystemIO", "TestSupport", "Transformer"]),
  .testTarget(
    name: "CompressedTensorsTests",
    dependencies: [
      "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Quantization", "Safetensors",
      "SystemIO", "Tensors", "TestSupport", "Transformer",
    ]),
  .testTarget(
    name: "CalibrationTests",
    dependencies: [
      "Calibration", "ChatTemplates", "Datasets", "JSON", "LinearAlgebra", "ScratchStore",
      "SystemIO", "Tensors", "TestSupport",
    ]),
  .testTarget(name: "PlanningTests", dependencies: ["Planning", "Tensors"]),
  .testTarget(
    name: "ReportingTests", dependencies: ["JSON", "Reporting", "SystemIO", "TestSupport"]),
  .testTarget(
    name: "PipelineTests",
    dependencies: [
      "Calibration", "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Pipeline", "Planning",
      "Quantization", "Ranks", "Recipes", "Reporting", "Safetensors", "SystemIO", "Tensors",
      "TestSupport", "Transformer",
    ]),
  // Runs the program that stands beside the test bundle.
  .testTarget(
    name: "EndToEndTests",
    dependencies: [
      "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Quantization", "Safetensors",
      "Ranks", "SystemIO", "Tensors", "TestSupport", "Tokenization", "Transformer", "sluice",
    ]),
]

// Run while a build goes on.
let plugins: [Target] = [
  .plugin(name: "SourceCommit", capability: .buildTool(), path: "tools/SourceCommit")
]

for wing in wings {
  for target in wing.targets { target.path = "Sources/\(wing.folder)/\(target.name)" }
}

let package = Package(
  name: "sluice",
  products: [
    .executable(name: "sluice", targets: ["sluice"]),
    .library(name: "CFaultShim", type: .dynamic, targets: ["CFaultShim"]),
  ],
  traits: [
    .trait(
      name: "Fuzzing",
      description: "Links libFuzzer's driver; tools/faults/fuzz gives the flags that it needs."),
    .trait(
      name: "MPI",
      description: "Several processes share a run (mpirun, srun). Needs libopenmpi-dev."),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    // Integers of chat templates.
    .package(url: "https://github.com/attaswift/BigInt", from: "6.0.1"),
    // `swift package generate-documentation`. No target uses it, and `--product sluice` does not build it.
    .package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"),
  ],
  targets: wings.flatMap(\.targets) + program + instruments + tests + plugins
)

let inC = ["CKernels", "CMappings", "peaks"]
for target in package.targets
where ![.system, .plugin].contains(target.type) && !inC.contains(target.name) {
  target.swiftSettings = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableExperimentalFeature("Lifetimes"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ]
}
