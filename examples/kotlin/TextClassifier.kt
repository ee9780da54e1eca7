package com.example

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import java.io.File
import kotlin.math.exp
import org.json.JSONObject

/** Labels texts with a bundle of text_classification, by LiteRT: see README.md. */
class TextClassifier(folder: File) : AutoCloseable {
  private val config = JSONObject(File(folder, "config.json").readText())
  private val sizes = config.getJSONObject("architecture")
  private val longest = sizes.getInt("max_sequence_length")
  private val tokenizer = Tokenizer(JSONObject(File(folder, "tokenizer.json").readText()))
  private val model =
    CompiledModel.create(
      File(folder, "model.tflite").path,
      CompiledModel.Options(Accelerator.CPU), // or GPU, with the package litert-gpu
    )

  /** The probability of each label. */
  fun classify(text: String): Map<String, Double> {
    val content = tokenizer.encode(text).take(longest - 2)
    val ids = listOf(sizes.getInt("start_id")) + content + sizes.getInt("end_id")
    val logits = run(ids)
    // Sigmoid if several labels may be right at once, else softmax.
    val several = sizes.getBoolean("multi_label")
    val powers = logits.map { if (several) 1 / (1 + exp(-it)) else exp(it - logits.max()) }
    val sum = if (several) 1.0 else powers.sum()
    val labels = config.getJSONArray("labels")
    return powers.indices.associate { labels.getString(it) to powers[it] / sum }
  }

  /** The logits of ids, which are padded to the length of a signature `run_1x<length>`. */
  private fun run(ids: List<Int>): List<Double> {
    val length = (LENGTHS.filter { it < longest } + longest).first { it >= ids.size }
    val padding = sizes.getInt("padding_id")
    val signature = "run_1x$length"
    model.createInputBuffer("token_ids", signature).use { input ->
      model.createOutputBuffer("output", signature).use { output ->
        input.writeInt(IntArray(length) { ids.getOrElse(it) { padding } })
        model.run(mapOf("token_ids" to input), mapOf("output" to output), signature)
        return output.readFloat().map { it.toDouble() }
      }
    }
  }

  override fun close() = model.close()

  private companion object {
    /** Lengths for which a bundle has signatures, up to the model's longest. */
    val LENGTHS = listOf(16, 32, 64, 128, 256, 512, 1024)
  }
}

/** Byte-level BPE as in tokenizer.json of a bundle that was trained here. */
class Tokenizer(file: JSONObject) {
  private val vocabulary = file.getJSONObject("model").getJSONObject("vocab")
  private val ids = vocabulary.keys().asSequence().associateWith { vocabulary.getInt(it) }
  private val lowers = !file.isNull("normalizer") // reads texts in lower case
  private val pieces: Regex

  /** The printable character by which the vocabulary shows each byte, as GPT-2's does. */
  private val shown: List<String>

  init {
    val split = file.getJSONObject("pre_tokenizer").getJSONArray("pretokenizers").getJSONObject(0)
    val pattern = split.getJSONObject("pattern").getString("Regex")
    pieces = Regex(pattern.replace(Regex("""\\p\{(Han|Hiragana|Katakana)\}"""), """\\p{Is$1}"""))
    var next = 256
    shown = (0..255).map { byte ->
      val printable = byte in 33..126 || (byte in 161..255 && byte != 173)
      (if (printable) byte else next++).toChar().toString()
    }
  }

  fun encode(text: String): List<Int> =
    pieces.findAll(if (lowers) lower(text) else text).flatMap { merge(it.value) }.toList()

  /** Each character in lower case by itself, so that a Greek sigma does not depend on its place. */
  private fun lower(text: String) =
    text.codePoints().toArray().joinToString("") { String(Character.toChars(it)).lowercase() }

  /** The ids of a piece: the two neighbours whose token has the lowest id are merged first. */
  private fun merge(piece: String): List<Int> {
    val parts = piece.toByteArray().map { shown[it.toInt() and 255] }.toMutableList()
    while (true) {
      val best =
        (1 until parts.size)
          .filter { parts[it - 1] + parts[it] in ids }
          .minByOrNull { ids.getValue(parts[it - 1] + parts[it]) } ?: break
      parts[best - 1] += parts.removeAt(best)
    }
    return parts.map { ids.getValue(it) }
  }
}
