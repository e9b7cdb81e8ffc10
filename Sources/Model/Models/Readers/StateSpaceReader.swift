// Mamba-2 as config.json spells it.

internal import JSON
internal import Transformer

struct StateSpaceReader {
  private let decoder: DecoderReader
  private let spelling: Spelling
  private let heads: Int
  private let headDimension: Int
  private let groups: Int
  private let stateSize: Int
  private let taps: Int
  private let bias: Bool
  private let convolutionHasBias: Bool
  /// What steps are held within.
  private let steps: ClosedRange<Float>
  /// Whether the norm before the output projection takes the channels of each group by themselves.
  private let normsGroups: Bool

  /// Keys of config.json, and the module in a layer.
  struct Spelling {
    let heads: [String]
    let headDimension: [String]
    let groups: [String]
    let stateSize: [String]
    let taps: [String]
    let bias: [String]
    let convolutionHasBias: [String]
    let module: String
    /// What vLLM asks config.json for in the place of the module.
    var servedModule: String?
  }

  /// - Parameter width: of all heads, which the file may leave open.
  init(
    _ config: inout ConfigReader, _ decoder: DecoderReader, _ spelling: Spelling,
    width: Int? = nil, steps: ClosedRange<Float>, normsGroups: Bool
  ) throws(ConfigError) {
    self.decoder = decoder
    self.spelling = spelling
    self.steps = steps
    self.normsGroups = normsGroups
    heads = try config.int(spelling.heads, default: 128)
    let isOpen = spelling.headDimension.allSatisfy { !config.names($0) || config.isText($0) }
    if let width, isOpen {
      // `auto`.
      config.ignore(Set(spelling.headDimension))
      headDimension = width / heads
    } else {
      headDimension = try config.int(spelling.headDimension, default: 64)
    }
    if let width, heads * headDimension != width {
      throw config.implausible(
        spelling.headDimension[0], expected: "\(width) channels over \(heads) heads",
        found: "\(headDimension)")
    }
    groups = try config.int(spelling.groups)
    stateSize = try config.int(spelling.stateSize)
    taps = try config.int(spelling.taps, default: 4)
    bias = try config.bool(spelling.bias, default: false)
    convolutionHasBias = try config.bool(spelling.convolutionHasBias, default: true)
    if heads % groups != 0 {
      throw config.implausible(
        spelling.groups[0], expected: "a divisor of \(heads) heads", found: "\(groups)")
    }
  }

  func stateSpace(_ names: LayerNames) -> SequenceMixer {
    let (values, keys) = (heads * headDimension, groups * stateSize)
    let channels = values + 2 * keys
    func name(_ part: String) -> String { names.name("\(spelling.module).\(part)") }
    func linear(_ part: String, _ inputs: Int, _ outputs: Int) -> LinearSpec {
      names.linear(
        "\(spelling.module).\(part)", inputs, outputs, bias: bias,
        servedAs: spelling.servedModule.map { ["\($0).\(part)"] } ?? [])
    }
    return .stateSpace(
      StateSpaceSpec(
        input: linear("in_proj", decoder.hidden, values + channels + heads),
        output: linear("out_proj", values, decoder.hidden),
        convolution: CausalConvolution(
          weight: ParameterName.weight(of: name("conv1d")),
          bias: convolutionHasBias ? ParameterName.bias(of: name("conv1d")) : nil,
          channels: channels, taps: taps),
        norm: NormSpec(name("norm"), size: values, epsilon: decoder.epsilon),
        normWidth: normsGroups ? values / groups : values, heads: heads,
        headDimension: headDimension, groups: groups, stateSize: stateSize,
        decayRate: name("A_log"), stepBias: name("dt_bias"), skip: name("D"), steps: steps))
  }
}
