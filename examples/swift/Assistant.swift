import Foundation
import LiteRTLM

/// Asks a bundle of instruction_finetuning, by LiteRT-LM: see README.md.
public func answer(bundle: URL, question: String) async throws -> String {
  // The tokenizer, the chat template and the end of an answer are in the file.
  let config = try EngineConfig(
    modelPath: bundle.appendingPathComponent("model.litertlm").path,
    backend: .cpu(),
    cacheDir: NSTemporaryDirectory()
  )
  let engine = Engine(engineConfig: config)
  try await engine.initialize()
  let conversation = try await engine.createConversation()  // remembers its turns
  return try await conversation.sendMessage(Message(question)).toString
}
