// Numbers of layers and experts in ranges.

/// "layer 3", "layers 0-2, 5".
package func layersText(_ numbers: [Int]) -> String {
  (numbers.count == 1 ? "layer " : "layers ") + rangesText(numbers)
}

/// "0-2, 5" for rising numbers.
package func rangesText(_ numbers: [Int]) -> String {
  var ranges: [ClosedRange<Int>] = []
  for number in numbers {
    if let last = ranges.last, last.upperBound + 1 == number {
      ranges[ranges.count - 1] = last.lowerBound...number
    } else {
      ranges.append(number...number)
    }
  }
  return ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }
    .joined(separator: ", ")
}
