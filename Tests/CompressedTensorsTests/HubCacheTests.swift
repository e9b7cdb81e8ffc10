// Models by name, in a cache laid out as huggingface_hub lays it out.

import CompressedTensors
import Glibc
import Models
import SystemIO
import Testing
import TestSupport

/// A cache with one model of one commit, whose files are links into `blobs/`.
private struct SmallCache {
  static let commit = "0123456789abcdef0123456789abcdef01234567"
  let cache: HubCache
  let model: String

  var snapshot: String { "\(model)/snapshots/\(Self.commit)" }

  init(home: String, name: String = "zai-org--GLM") throws {
    cache = HubCache { ["HF_HOME": home][$0] }
    model = "\(home)/hub/models--\(name)"
    for folder in ["blobs", "refs/refs/pr", "snapshots/\(Self.commit)"] {
      try FileSystem.createFolder("\(model)/\(folder)")
    }
    for reference in ["main", "v1", "refs/pr/1"] {
      try replaceFile("\(model)/refs/\(reference)", with: Array(Self.commit.utf8))
    }
    for file in try FileSystem.list(fixturePath("awq/dense-first")) {
      try FileSystem.copyFile(
        from: fixturePath("awq/dense-first/\(file)"), to: "\(model)/blobs/\(file)")
      try link("../../blobs/\(file)", "\(snapshot)/\(file)")
    }
  }

  func link(_ target: String, _ path: String) throws {
    if unsafe symlink(target, path) != 0 {
      throw SystemError(path: path, call: "symlink", code: errno)
    }
  }

  /// Puts text in the place of a link.
  func write(_ text: String, to file: String) throws {
    try FileSystem.remove("\(snapshot)/\(file)")
    try replaceFile("\(snapshot)/\(file)", with: Array(text.utf8))
  }

  func refusal(_ text: String) -> String {
    let error = #expect(throws: HubCacheError.self) { try cache.folder(of: text) }
    return error?.description ?? ""
  }
}

@Suite struct HubCacheTests {
  @Test(arguments: [
    ("/h/hub/models--zai-org--GLM-4.7/snapshots/abc", "zai-org/GLM-4.7"),
    (
      "/h/datasets--HuggingFaceH4--ultrachat_200k/snapshots/a/data/train_sft-*",
      "HuggingFaceH4/ultrachat_200k"
    ),
    ("/data/GLM-4.7", "GLM-4.7"), ("chats.jsonl", "chats.jsonl"), ("snapshots/x", "x"), ("-", "-"),
    ("a/other--b--c/snapshots/x", "x"),
  ])
  func `a path in a cache is called by its hub id, any other by its last part`(
    path: String, name: String
  ) {
    #expect(HubCache.name(of: path) == name)
  }

  @Test func `the cache is where huggingface_hub keeps it`() {
    func path(_ environment: [String: String]) -> String {
      HubCache { environment[$0] }.path
    }
    let all = [
      "HF_HUB_CACHE": "/hub", "HF_HOME": "/hf", "XDG_CACHE_HOME": "/xdg", "HOME": "/users/u",
    ]
    #expect(path(all) == "/hub")
    #expect(path(all.filter { $0.key != "HF_HUB_CACHE" }) == "/hf/hub")
    #expect(path(["HF_HUB_CACHE": "", "HF_HOME": "~/hf", "HOME": "/users/u"]) == "/users/u/hf/hub")
    #expect(path(["XDG_CACHE_HOME": "/xdg", "HOME": "/users/u"]) == "/xdg/huggingface/hub")
    #expect(path(["HOME": "/users/u"]) == "/users/u/.cache/huggingface/hub")
  }

  @Test(arguments: ["", "@main", "@v1", "@refs/pr/1", "@\(SmallCache.commit)"])
  func `a hub id names a snapshot by branch, tag or commit`(revision: String) throws {
    try withTemporaryFolder { home in
      let small = try SmallCache(home: home)
      let folder = try small.cache.folder(of: "zai-org/GLM\(revision)")
      #expect(folder == small.snapshot)
      #expect(try Checkpoint(folder: folder).spec.layers.count == 2)
    }
  }

  @Test func `what exists under the name wins, and paths stay paths`() throws {
    try withTemporaryFolder { home in
      let small = try SmallCache(home: home)
      for path in [small.model, "/no/such/path", "./zai-org/GLM", "../GLM", "GLM", "a/b/c"] {
        #expect(try small.cache.folder(of: path) == path)
      }
    }
  }

  @Test(arguments: [
    "zai-org", "/zai-org/GLM", "zai-org/", "/GLM", "a/b/c", "./a", "~/a", "a/..", "a/b@", "a/b@x/",
    "a/b@../../c", "a/b c", "-a/b",
  ])
  func `what can only be a path is no hub id`(text: String) {
    #expect(HubID(text) == nil)
  }

  @Test func `a model that is not in the cache is refused with the command that downloads it`()
    throws
  {
    try withTemporaryFolder { home in
      let small = try SmallCache(home: home)
      #expect(
        small.refusal("zai-org/GLM-5")
          == "zai-org/GLM-5: no such folder, and no such model in \(home)/hub; "
          + "download it with `hf download zai-org/GLM-5`")
      #expect(small.refusal("a/b@v2").hasSuffix("`hf download a/b --revision v2`"))
    }
  }

  @Test func `a revision that is not in the cache is refused with those that are`() throws {
    try withTemporaryFolder { home in
      let small = try SmallCache(home: home)
      #expect(
        small.refusal("zai-org/GLM@v2")
          == "zai-org/GLM: revision v2 is not in the cache, only \(SmallCache.commit) "
          + "(as ORG/NAME@REVISION); download it with `hf download zai-org/GLM --revision v2`")
      try FileSystem.remove("\(small.model)/refs/main")
      #expect(small.refusal("zai-org/GLM").hasPrefix("zai-org/GLM: revision main is not in"))
      try FileSystem.remove("\(small.model)/snapshots")
      #expect(small.refusal("zai-org/GLM").contains("no such model in"))
    }
  }

  @Test func `a snapshot that lacks a shard is refused with the command for the rest`() throws {
    try withTemporaryFolder { home in
      let small = try SmallCache(home: home)
      try FileSystem.remove("\(small.snapshot)/model.safetensors")
      let index =
        #"{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}"#
      try small.write(index, to: "model.safetensors.index.json")
      try small.write("", to: "model-1-of-2.safetensors")
      // A link whose blob never came.
      try small.link("../../blobs/none", "\(small.snapshot)/model-2-of-2.safetensors")
      #expect(
        small.refusal("zai-org/GLM@main")
          == "zai-org/GLM@main: \(small.snapshot) lacks `model-2-of-2.safetensors`; "
          + "download the rest with `hf download zai-org/GLM --revision main`")
    }
  }

  @Test func `a snapshot without config or weights is refused`() throws {
    try withTemporaryFolder { home in
      let small = try SmallCache(home: home)
      for file in ["config.json", "model.safetensors"] {
        try FileSystem.remove("\(small.snapshot)/\(file)")
      }
      #expect(
        small.refusal("zai-org/GLM").contains("lacks `config.json`, `model.safetensors`; download"))
    }
  }
}
