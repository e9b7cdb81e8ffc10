// Which files of tensors a model folder should hold, and which of them it does: what can be told before a download.

internal import JSON
internal import SystemIO

/// The shards that a folder's index names, or its one file of tensors.
package struct ShardListing: Sendable, Equatable {
  /// Sorted.
  package let shards: [String]
  /// Shards that are not there.
  package let missing: [String]
  /// Names from every shard, sorted; nil where there is no index.
  package let tensors: [String]?

  package var isComplete: Bool { missing.isEmpty }

  /// - Parameter room: bytes of memory that reading the index may take.
  /// - Throws: `SafetensorsError` where there is an index that cannot be read.
  package init(folder: String, room: Int = Header.standardRoom) throws(SafetensorsError) {
    let index = folder + "/" + ModelSurvey.indexFile
    if FileSystem.exists(index) {
      let entries = try ShardedModel.readWeightMap(index, room: room).entries
      shards = Set(entries.compactMap(\.value.string)).sorted()
      tensors = entries.map(\.key).sorted()
    } else {
      shards = ["model.safetensors"]
      tensors = nil
    }
    missing = shards.filter { !FileSystem.exists("\(folder)/\($0)") }
  }
}
