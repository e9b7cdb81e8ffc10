// Everything a user can say about a run.

package import Calibration
package import LinearAlgebra
package import Quantization
package import Recipes

/// Everything a user can say about a run.
package struct QuantizeOptions: Sendable {
  package var model: String
  package var output: String
  /// Used unless `smooths` is off.
  package var data = CalibrationSource(
    path: nil, selection: RowSelection(samples: 512, sequenceLength: 2048))
  /// By their targets, which on the command line may also be parts of a model and globs.
  package var schemes = SchemePreset.named(SchemePreset.usual).map { [$0.scheme] } ?? []
  package var schemesAreFromRecipe = false
  /// Whether the group size of `schemes` is one that somebody asked for; else it may become smaller, so that groups divide
  /// the inputs of Linears.
  package var isGroupSizeNamed = true
  /// Of keys and values; nil where they are kept as they are.
  package var cache: CacheScheme?
  /// Of prediction layers; nil where they stay as they are.
  package var predictions: QuantizationScheme?
  /// A size to choose schemes for; nil where they are named.
  package var size: SizeWish?
  /// What was chosen for it; nil before a first pass measured what there is to choose.
  package var chosen: ChosenSize?
  package var ignore: [String] = []
  package var smooths = true
  package var rounding = RoundingMethod.compensated
  /// nil for what measured best with `rounding`.
  package var expertWeighting: ExpertWeighting?
  /// Tokens that an expert sees beside those that the router sends to it.
  package var expertTokens = OtherTokens.auto
  /// What is added to the diagonal of a Gram matrix, over its mean.
  package var damping = 0.005
  package var duoScaling = DuoScaling.on
  /// Points of the scale search; one of `duoScaling.gridSizes`.
  package var gridPoints = 20
  /// What is smoothed; nil for all that the model's description knows.
  package var mappings: [RecipeMapping]?
  /// What a recipe says of SmoothQuant, where that is what smooths.
  package var smoothQuant: SmoothQuant?
  /// The file that `mappings` are from, and `ignore` and `rounding` where they say so.
  package var recipe: String?
  package var ignoreIsFromRecipe = false
  package var cacheIsFromRecipe = false
  package var roundingIsFromRecipe = false
  package var loss = SmoothingLoss.diagonal
  package var memory: Int
  package var threads: Int
  /// Processes that share the work.
  package var ranks = 1
  /// How many of them are on one host; nil where that may be all.
  package var ranksOfHost: Int?
  /// Layers whose states are made together; nil for one, or with several processes twice as many as these.
  package var window: Int?
  /// What multiplies large matrices; nil for the best one that the CPU and the weights allow.
  package var engine: Engine?
  /// A folder for hidden states; `OUT/.sluice/scratch` where none is named.
  package var scratch: String?
  /// A folder of this host's own, for what one process of several alone reads; nil for the folder of all.
  package var localScratch: String?
  /// A folder where states and statistics are kept for other runs, and looked for; nil where they go with this one.
  package var keptStates: String?
  /// Schemes that some layers have instead of `schemes`, one after the other.
  package var layerSchemes: [LayerScheme] = []
  /// A finished output that the new one takes layers over from which do not change; nil for none.
  package var replaces: String?
  /// In the words of the command line; nil where nobody may want to change the output.
  package var request: RunRequest?
  package var maximumShardBytes = 5_000_000_000
  package var restarts = false
  /// A file that the report is written to as well.
  package var report: String?
  /// Whether README.md of the output is a model card, and not a copy of the source's.
  package var writesCard = true
  /// Of this program, for the report.
  package var version = ""

  /// Keys of config.json that no description knows, and that the user takes to change nothing.
  package var acceptedKeys: Set<String> = []

  package init(model: String, output: String, memory: Int, threads: Int) {
    self.model = model
    self.output = output
    self.memory = memory
    self.threads = threads
  }

  /// Takes over everything that a recipe says.
  package mutating func follow(_ recipe: Recipe, file: String) {
    self.recipe = file
    schemes = recipe.schemes
    schemesAreFromRecipe = true
    isGroupSizeNamed = true
    ignore = recipe.ignore
    ignoreIsFromRecipe = true
    cache = recipe.cache
    cacheIsFromRecipe = true
    smooths = recipe.smooths
    smoothQuant = recipe.smoothQuant
    rounding = recipe.rounding
    roundingIsFromRecipe = true
    if let damping = recipe.damping { self.damping = damping }
    duoScaling = recipe.duoScaling
    gridPoints = recipe.gridPoints
    mappings = recipe.mappings
  }

  /// Whether this is for a pass that measures, and not yet for one that writes.
  var measures: Bool { size != nil && chosen == nil }

  /// These options with the schemes that were chosen for a size.
  package func choosing(_ chosen: ChosenSize) -> QuantizeOptions {
    var result = self
    result.chosen = chosen
    result.schemes = chosen.schemes
    result.isGroupSizeNamed = true
    return result
  }

  /// Statistics of experts that see every token alike are what plain AWQ has.
  var weighting: ExpertWeighting { expertWeighting ?? (rounding.needsGram ? .blend : .all) }

  /// Whether statistics come with Gram matrices.
  package var gathersGrams: Bool { loss == .gram || rounding.needsGram }

  /// Whether scales or codes come of calibration data.
  package var calibrates: Bool { smooths || rounding.needsStatistics }

  var grid: [GridPoint] { GridPoint.grid(points: gridPoints, duo: duoScaling) }
}
