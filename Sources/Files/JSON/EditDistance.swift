// How far a name is from one that is known: what finds the word that was meant.

/// Levenshtein distance over bytes.
package func editDistance(_ first: String, _ second: String) -> Int {
  let second = Array(second.utf8)
  var row = Array(0...second.count)
  for (i, a) in first.utf8.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, b) in second.enumerated() {
      let substitution = diagonal + (a == b ? 0 : 1)
      diagonal = row[j + 1]
      row[j + 1] = min(substitution, min(row[j], diagonal) + 1)
    }
  }
  return row[second.count]
}
