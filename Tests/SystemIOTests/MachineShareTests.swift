// Limits of control groups in both versions, as the kernel writes them, in trees of files laid out here.

import SystemIO
import Testing
import TestSupport

@Suite struct MachineShareTests {
  private static let unified =
    "31 23 0:29 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
  private static let version1 = """
    31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
    35 31 0:32 / /sys/fs/cgroup/memory rw shared:12 - cgroup cgroup rw,memory

    """

  /// - Parameter files: content by path; `free` MiB are MemAvailable.
  private func share<R>(
    free: Int = 8192, _ files: [String: String], _ body: (MachineShare) throws -> R
  ) throws -> R {
    try withTemporaryFolder { folder in
      var files = files
      files["/proc/meminfo"] = "MemTotal: 1 kB\nMemFree: 2 kB\nMemAvailable:  \(free << 10) kB\n"
      for (path, content) in files {
        try FileSystem.createFolder(FileSystem.parent(folder + path))
        try replaceFile(folder + path, with: Array(content.utf8), durably: false)
      }
      return try body(MachineShare(root: folder))
    }
  }

  private func mebibytes(_ files: [String: String], free: Int = 8192) throws -> Int {
    try share(free: free, files) { $0.availableBytes >> 20 }
  }

  @Test func withoutControlGroupsTheMachineCounts() throws {
    #expect(try mebibytes([:]) == 8192)
    #expect(try share([:]) { $0.quota } == nil)
  }

  @Test func aLimitOfVersion2IsHeldAgainstWhatTheGroupUses() throws {
    var files = [
      "/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo": Self.unified,
      "/sys/fs/cgroup/memory.max": "\(200 << 20)\n",
      "/sys/fs/cgroup/memory.current": "\(150 << 20)\n",
    ]
    #expect(try mebibytes(files) == 50)
    // Pages of files can be dropped.
    files["/sys/fs/cgroup/memory.stat"] =
      "anon 1\nfile \(90 << 20)\ninactive_file \(60 << 20)\nactive_file \(20 << 20)\n"
    #expect(try mebibytes(files) == 130)
    #expect(try mebibytes(files, free: 100) == 100)
    files["/sys/fs/cgroup/memory.high"] = "\(120 << 20)\n"
    #expect(try mebibytes(files) == 50)
    files["/sys/fs/cgroup/memory.current"] = "\(500 << 20)\n"
    #expect(try mebibytes(files) == 0)
  }

  @Test func noLimitOfVersion2IsSpelledMax() throws {
    let files = [
      "/proc/self/cgroup": "0::/\n", "/proc/self/mountinfo": Self.unified,
      "/sys/fs/cgroup/memory.max": "max\n", "/sys/fs/cgroup/memory.current": "1\n",
      "/sys/fs/cgroup/cpu.max": "max 100000\n",
    ]
    #expect(try mebibytes(files) == 8192)
    #expect(try share(files) { $0.quota } == nil)
  }

  @Test func theTightestLimitOnTheWayUpCounts() throws {
    var files = [
      "/proc/self/cgroup": "0::/user.slice/a b/run\n", "/proc/self/mountinfo": Self.unified,
      "/sys/fs/cgroup/user.slice/a b/run/memory.max": "\(900 << 20)\n",
      "/sys/fs/cgroup/user.slice/a b/run/memory.current": "0\n",
      "/sys/fs/cgroup/user.slice/a b/memory.max": "max\n",
      "/sys/fs/cgroup/user.slice/memory.max": "\(1000 << 20)\n",
      "/sys/fs/cgroup/user.slice/memory.current": "\(700 << 20)\n",
      "/sys/fs/cgroup/user.slice/a b/run/cpu.max": "400000 100000\n",
      "/sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
    ]
    #expect(try mebibytes(files) == 300)
    #expect(try share(files) { $0.quota } == 2)
    files["/sys/fs/cgroup/user.slice/memory.current"] = "0\n"
    #expect(try mebibytes(files) == 900)
    files["/sys/fs/cgroup/user.slice/cpu.max"] = "20000 100000\n"
    #expect(try share(files) { $0.quota } == 1)
  }

  @Test func limitsOfVersion1AreReadFromTheControllersOwnTree() throws {
    let files = [
      "/proc/self/cgroup": "9:name=systemd:/x\n4:memory:/jobs/one\n2:cpu,cpuacct:/jobs\n0::/\n",
      "/proc/self/mountinfo": Self.version1,
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
      "/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": "\(400 << 20)\n",
      "/sys/fs/cgroup/memory/jobs/memory.usage_in_bytes": "\(350 << 20)\n",
      "/sys/fs/cgroup/memory/jobs/memory.stat":
        "inactive_file 0\ntotal_inactive_file \(200 << 20)\ntotal_active_file 0\n",
      "/sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes": "\(300 << 20)\n",
      "/sys/fs/cgroup/memory/jobs/one/memory.usage_in_bytes": "\(10 << 20)\n",
      "/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us": "250000\n",
      "/sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us": "100000\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    ]
    #expect(try mebibytes(files) == 250)
    #expect(try share(files) { $0.quota } == 3)
  }

  /// Docker binds the group's own folder to the mount point and names the whole path all the same.
  @Test func aContainerSeesItsOwnGroupAsTheTop() throws {
    let files = [
      "/proc/self/cgroup": "4:memory:/docker/12ab\n",
      "/proc/self/mountinfo":
        "35 31 0:32 /docker/12ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "\(200 << 20)\n",
      "/sys/fs/cgroup/memory/memory.usage_in_bytes": "\(20 << 20)\n",
    ]
    #expect(try mebibytes(files) == 180)
    var moved = files
    moved["/proc/self/cgroup"] = "4:memory:/../elsewhere\n"
    #expect(try mebibytes(moved) == 180)
  }

  @Test func processorsAreThoseThatTheKernelAllows() throws {
    let status = String(decoding: try FileSystem.readFile("/proc/self/status"), as: UTF8.self)
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed:") })
    let mask = try #require(line.split { $0 == " " || $0 == "\t" }.last)
    let allowed = mask.compactMap { $0.hexDigitValue?.nonzeroBitCount }.reduce(0, +)
    #expect(MachineShare().processors == max(1, min(allowed, MachineShare().quota ?? .max)))
  }
}
