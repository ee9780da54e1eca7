import Foundation
import LiteRT

/// Labels texts with a bundle of text_classification, by LiteRT: see README.md.
public final class TextClassifier {
  private struct Config: Decodable {
    struct Architecture: Decodable {
      let max_sequence_length, start_id, end_id, padding_id: Int
      let multi_label: Bool
    }
    let architecture: Architecture
    let labels: [String]
  }

  private let config: Config
  private let tokenizer: Tokenizer
  private let model: CompiledModel
  private var signatures: [(length: Int, index: Int)] = []

  public init(folder: URL) throws {
    let read = { (name: String) in try Data(contentsOf: folder.appendingPathComponent(name)) }
    config = try JSONDecoder().decode(Config.self, from: read("config.json"))
    tokenizer = try Tokenizer(file: read("tokenizer.json"))
    let options = try Options()
    try options.setHardwareAccelerators([.cpu])
    model = try CompiledModel(
      filePath: folder.appendingPathComponent("model.tflite").path,
      environment: Environment(), options: options)
    // Signatures for one text are called run_1x<length>.
    for (index, name) in try model.signatureKeys().enumerated() where name.hasPrefix("run_1x") {
      signatures.append((Int(name.dropFirst(6))!, index))
    }
    signatures.sort { $0.length < $1.length }
  }

  /// The probability of each label.
  public func classify(_ text: String) throws -> [String: Double] {
    let sizes = config.architecture
    let content = tokenizer.encode(text).prefix(sizes.max_sequence_length - 2)
    let logits = try run([sizes.start_id] + content + [sizes.end_id])
    // Sigmoid if several labels may be right at once, else softmax.
    let largest = logits.max()!
    let powers = logits.map { sizes.multi_label ? 1 / (1 + exp(-$0)) : exp($0 - largest) }
    let sum = sizes.multi_label ? 1 : powers.reduce(0, +)
    return Dictionary(uniqueKeysWithValues: zip(config.labels, powers.map { $0 / sum }))
  }

  /// The logits of ids, which are padded to the shortest length that holds them.
  private func run(_ ids: [Int]) throws -> [Double] {
    let (length, index) = signatures.first { $0.length >= ids.count }!
    let padding = [Int](repeating: config.architecture.padding_id, count: length - ids.count)
    let inputs = try model.createInputBuffers(signatureIndex: index)
    try inputs[0].write((ids + padding).map { Int32($0) })
    let outputs = try model.run(inputs: inputs, signatureIndex: index)
    let logits: [Float] = try outputs[0].read()
    return logits.map { Double($0) }
  }
}

/// Byte-level BPE as in tokenizer.json of a bundle that was trained here.
final class Tokenizer {
  private struct File: Decodable {
    struct Model: Decodable { let vocab: [String: Int] }
    struct Split: Decodable {
      struct Pattern: Decodable { let Regex: String }
      let pattern: Pattern?
    }
    struct Pre: Decodable { let pretokenizers: [Split] }
    struct Normalizer: Decodable {}
    let model: Model
    let normalizer: Normalizer?
    let pre_tokenizer: Pre
  }

  private let ids: [String: Int]
  private let lowers: Bool  // reads texts in lower case
  private let pieces: NSRegularExpression
  /// The printable character by which the vocabulary shows each byte, as GPT-2's does.
  private let shown: [String]

  init(file: Data) throws {
    let read = try JSONDecoder().decode(File.self, from: file)
    ids = read.model.vocab
    lowers = read.normalizer != nil
    pieces = try NSRegularExpression(pattern: read.pre_tokenizer.pretokenizers[0].pattern!.Regex)
    var next: UInt32 = 255
    shown = (0...255).map { (byte: UInt32) in
      let printable = (33...126).contains(byte) || ((161...255).contains(byte) && byte != 173)
      if !printable { next += 1 }
      return String(Character(UnicodeScalar(printable ? byte : next)!))
    }
  }

  func encode(_ given: String) -> [Int] {
    // Each character by itself, so that a Greek sigma does not depend on its place.
    let text = lowers ? given.unicodeScalars.map(\.properties.lowercaseMapping).joined() : given
    let whole = NSRange(text.startIndex..., in: text)
    return pieces.matches(in: text, range: whole).flatMap {
      merge(String(text[Range($0.range, in: text)!]))
    }
  }

  /// The ids of a piece: the two neighbours whose token has the lowest id are merged first.
  private func merge(_ piece: String) -> [Int] {
    var parts = piece.utf8.map { shown[Int($0)] }
    while let (_, best) = parts.indices.dropFirst()
      .compactMap({ n in ids[parts[n - 1] + parts[n]].map { (id: $0, place: n) } })
      .min(by: { $0.id < $1.id })
    {
      let second = parts.remove(at: best)
      parts[best - 1] += second
    }
    return parts.map { ids[$0]! }
  }
}
