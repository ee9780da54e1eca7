import com.google.ai.edge.litertlm.Engine
import com.google.ai.edge.litertlm.EngineConfig
import com.google.ai.edge.litertlm.LogSeverity

/** Talks with a bundle of instruction_finetuning, by LiteRT-LM: see README.md. */
suspend fun main(arguments: Array<String>) {
  Engine.setNativeMinLogSeverity(LogSeverity.ERROR)
  // The tokenizer, the chat template and the end of an answer are in the file.
  val config = EngineConfig(modelPath = "${arguments[0]}/model.litertlm")
  Engine(config).use { engine ->
    engine.initialize() // takes seconds: on Android, not on the main thread
    engine.createConversation().use { conversation ->
      while (true) {
        print("> ")
        val message = readlnOrNull()?.ifBlank { null } ?: return
        conversation.sendMessageAsync(message).collect { print(it) }
        println()
      }
    }
  }
}
