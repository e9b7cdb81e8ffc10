// What this process may take of the machine: memory and processors, under all limits that are set for it.

internal import CLinux
import Glibc

/// The control groups that the process is in, and the groups above them, have limits; the tightest one counts.
///
/// Source: cgroups(7), kernel documentation `admin-guide/cgroup-v2.rst`, `cgroup-v1/memory.rst`, `scheduler/sched-bwc.rst`.
package struct MachineShare: Sendable {
  /// Stands before `/proc` and the mount points; empty but in tests.
  private let root: String

  package init(root: String = "") { self.root = root }

  // MARK: Memory

  /// Bytes that could be given to this process now without swapping.
  package var availableBytes: Int {
    let machine = meminfo("MemAvailable") ?? 1 << 30
    return max(0, groups(of: "memory").map(freeBytes).reduce(machine, min))
  }

  /// What a group's limit leaves. File pages that may be dropped count as free, as they do in MemAvailable.
  private func freeBytes(_ group: Group) -> Int {
    let limits =
      group.isUnified ? ["memory.max", "memory.high"] : ["memory.limit_in_bytes"]
    guard let limit = limits.compactMap({ number(group.folder + "/" + $0) }).min() else {
      return .max
    }
    let usage = group.isUnified ? "memory.current" : "memory.usage_in_bytes"
    let used = number(group.folder + "/" + usage) ?? 0
    let prefix = group.isUnified ? "" : "total_"
    let files = ["inactive_file", "active_file"].compactMap {
      value(of: prefix + $0, in: group.folder + "/memory.stat")
    }
    return max(0, limit - max(0, used - files.reduce(0, +)))
  }

  private func meminfo(_ name: String) -> Int? {
    value(of: name + ":", in: root + "/proc/meminfo").map { $0 << 10 }
  }

  // MARK: Processors

  /// Processors that this process may keep busy: those that it may run on, but no more than its quota of time is enough for.
  package var processors: Int {
    let allowed = Int(sluice_allowed_processors())
    return max(1, min(allowed, quota ?? .max))
  }

  /// How many processors the quota of time is enough for, rounded up; nil without a quota.
  package var quota: Int? {
    groups(of: "cpu").compactMap { group -> Int? in
      let quota: Int?
      let period: Int?
      if group.isUnified {
        let words = words(in: group.folder + "/cpu.max")
        quota = words.first.flatMap { Int($0) }
        period = words.last.flatMap { Int($0) }
      } else {
        quota = number(group.folder + "/cpu.cfs_quota_us")
        period = number(group.folder + "/cpu.cfs_period_us")
      }
      guard let quota, let period, quota > 0, period > 0 else { return nil }
      return (quota - 1) / period + 1
    }.min()
  }

  // MARK: Groups

  private struct Group {
    let folder: String
    /// Whether it belongs to version 2.
    let isUnified: Bool
  }

  /// The groups that the process is in for a controller, in both versions, from the innermost up to the mount point.
  private func groups(of controller: String) -> [Group] {
    lines("/proc/self/cgroup").flatMap { line -> [Group] in
      // hierarchy:controllers:path
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return [] }
      let isUnified = parts[1].isEmpty
      guard isUnified || parts[1].split(separator: ",").contains(Substring(controller)) else {
        return []
      }
      return mounts(isUnified ? nil : controller).flatMap { mount in
        folders(of: String(parts[2]), in: mount).map { Group(folder: $0, isUnified: isUnified) }
      }
    }
  }

  /// Where hierarchies are mounted, and which group stands at the top there.
  ///
  /// - Parameter controller: of version 1; nil for version 2.
  private func mounts(_ controller: String?) -> [(top: String, point: String)] {
    lines("/proc/self/mountinfo").compactMap { line in
      // number parent device top point options … - type source options
      let words = line.split(separator: " ")
      guard let dash = words.firstIndex(of: "-"), dash >= 6, words.count > dash + 3 else {
        return nil
      }
      let isRight =
        if let controller {
          words[dash + 1] == "cgroup"
            && words[dash + 3].split(separator: ",").contains(Substring(controller))
        } else {
          words[dash + 1] == "cgroup2"
        }
      return isRight ? (Self.unescaped(words[3]), Self.unescaped(words[4])) : nil
    }
  }

  /// A group's folder and those above it, as far as they are mounted. A container may see its own group as the top.
  private func folders(of path: String, in mount: (top: String, point: String)) -> [String] {
    var rest = path[...]
    if mount.top != "/" {
      rest =
        rest == mount.top || rest.hasPrefix(mount.top + "/") ? rest.dropFirst(mount.top.count) : ""
    }
    var names = rest.split(separator: "/")
    // The process was moved out of what it may see: only the top is known.
    if names.contains("..") { names = [] }
    return (0...names.count).reversed().map { count in
      ([root + mount.point] + names[..<count].map(String.init)).joined(separator: "/")
    }
  }

  /// mountinfo writes blanks and backslashes in octal.
  private static func unescaped(_ text: Substring) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].reduce(String(text)) {
      $0.replacing($1.0, with: $1.1)
    }
  }

  // MARK: Files

  private func lines(_ path: String) -> [Substring] { text(root + path).split(separator: "\n") }

  private func text(_ path: String) -> String {
    (try? FileSystem.readFile(path)).map { String(decoding: $0, as: UTF8.self) } ?? ""
  }

  private func words(in path: String) -> [Substring] {
    text(path).split { $0 == " " || $0 == "\n" }
  }

  /// The number that a file holds; nil for `max`.
  private func number(_ path: String) -> Int? { words(in: path).first.flatMap { Int($0) } }

  /// The number behind a name at the start of a line.
  private func value(of name: String, in path: String) -> Int? {
    for line in text(path).split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count >= 2, words[0] == name { return Int(words[1]) }
    }
    return nil
  }
}
