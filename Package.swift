// swift-tools-version: 6.2
import PackageDescription

// Read top to bottom: a target uses only what stands above it; tools/check_layers.py holds it to that.
let targets: [Target] = [
  // The system libraries.
  .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
  .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
  .systemLibrary(name: "COniguruma", pkgConfig: "oniguruma", providers: [.apt(["libonig-dev"])]),
  // SIMD kernels. Optimised in debug builds too: the numeric tests are 30 to 350 times slower otherwise.
  .target(name: "CKernels", cSettings: [.unsafeFlags(["-O3"])]),

  // Files and formats.
  .target(name: "SystemIO"),
  .target(name: "JSON"),
  .target(name: "Tensors", dependencies: ["CKernels"]),
  .target(name: "Safetensors", dependencies: ["JSON", "SystemIO", "Tensors"]),
  .target(name: "ScratchStore", dependencies: ["CKernels", "CZstd", "SystemIO", "Tensors"]),
  .target(name: "Tokenization", dependencies: ["COniguruma", "JSON", "SystemIO"]),

  // Numbers: matrices, one decoder layer, rounding.
  .target(name: "LinearAlgebra", dependencies: ["CKernels", "COpenBLAS", "Tensors"]),
  .target(name: "Transformer", dependencies: ["CKernels", "LinearAlgebra", "Tensors"]),
  .target(name: "Quantization", dependencies: ["CKernels", "LinearAlgebra", "Tensors"]),

  // Models as data, and what a run needs.
  .target(name: "Models", dependencies: ["JSON", "Safetensors", "Tensors", "Transformer"]),
  .target(
    name: "CompressedTensors",
    dependencies: [
      "CKernels", "JSON", "LinearAlgebra", "Models", "Quantization", "Safetensors", "SystemIO",
      "Tensors", "Transformer",
    ]),
  .target(name: "Calibration", dependencies: ["JSON", "ScratchStore", "SystemIO", "Tensors"]),
  .target(
    name: "Planning",
    dependencies: ["Calibration", "CompressedTensors", "Models", "Quantization", "Transformer"]),

  // The run, and the command line.
  .target(
    name: "Pipeline",
    dependencies: [
      "Calibration", "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Planning",
      "Quantization", "Safetensors", "ScratchStore", "SystemIO", "Tensors", "Transformer",
    ]),
  .executableTarget(
    name: "sluice",
    dependencies: [
      "Calibration", "CompressedTensors", "JSON", "LinearAlgebra", "Models", "Pipeline", "Planning",
      "Quantization", "Safetensors", "SystemIO", "Tensors",
      .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ]),

  // Tests, one target per target.
  .target(name: "TestSupport", dependencies: ["SystemIO"], path: "Tests/TestSupport"),
  .testTarget(name: "JSONTests", dependencies: ["JSON", "TestSupport"]),
  .testTarget(name: "SystemIOTests", dependencies: ["SystemIO", "TestSupport"]),
  .testTarget(
    name: "SafetensorsTests",
    dependencies: ["JSON", "Safetensors", "SystemIO", "Tensors", "TestSupport"]),
  .testTarget(
    name: "TokenizationTests", dependencies: ["JSON", "SystemIO", "TestSupport", "Tokenization"]),
]

let package = Package(
  name: "sluice",
  products: [.executable(name: "sluice", targets: ["sluice"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0")
  ],
  targets: targets
)

for target in package.targets where target.type != .system && target.name != "CKernels" {
  target.swiftSettings = [
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableExperimentalFeature("Lifetimes"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
  ]
}
