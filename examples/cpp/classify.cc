// Labels texts with a bundle of text_classification, or gives them numbers or vectors with one of
// text_regression or embedding, by LiteRT's C interface: see README.md.
//
//     ./classify ../../saved_models/topics "It rained all night."

#include <unicode/locid.h>
#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "litert/c/litert_compiled_model.h"
#include "litert/c/litert_environment.h"
#include "litert/c/litert_model.h"
#include "litert/c/litert_options.h"
#include "litert/c/litert_tensor_buffer.h"

nlohmann::json ReadJson(const std::string& file) {
  std::ifstream opened(file);
  if (!opened) throw std::runtime_error(file + " cannot be read");
  return nlohmann::json::parse(opened);
}

void Check(LiteRtStatus status, const char* what) {
  if (status != kLiteRtStatusOk) {
    throw std::runtime_error(std::string(what) + ": LiteRT's status " + std::to_string(status));
  }
}

// Byte-level BPE as in tokenizer.json of a bundle that was trained here.
class Tokenizer {
 public:
  explicit Tokenizer(const nlohmann::json& file)
      : ids_(file["model"]["vocab"]), lowers_(!file["normalizer"].is_null()) {
    const std::string regex = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"];
    UErrorCode status = U_ZERO_ERROR;
    pattern_.reset(icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(regex), 0, status));
    if (U_FAILURE(status)) throw std::runtime_error("the split pattern is not one of ICU's");
    // The vocabulary shows each byte as a character that can be printed, as GPT-2's does.
    for (int byte = 0, next = 256; byte < 256; ++byte) {
      const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
      const UChar32 character = printable ? byte : next++;
      icu::UnicodeString(character).toUTF8String(shown_[byte]);
    }
  }

  std::vector<int> Encode(const std::string& text) const {
    const icu::UnicodeString given = icu::UnicodeString::fromUTF8(text);
    const icu::UnicodeString whole = lowers_ ? Lower(given) : given;
    UErrorCode status = U_ZERO_ERROR;
    std::unique_ptr<icu::RegexMatcher> found(pattern_->matcher(whole, status));
    std::vector<int> ids;
    while (found->find()) {
      std::string piece;
      found->group(status).toUTF8String(piece);
      Merge(piece, ids);
    }
    return ids;
  }

 private:
  // Each character in lower case by itself, so that a Greek sigma does not depend on its place.
  static icu::UnicodeString Lower(const icu::UnicodeString& text) {
    icu::UnicodeString lower;
    for (int32_t place = 0; place < text.length(); place = text.moveIndex32(place, 1)) {
      lower += icu::UnicodeString(text.char32At(place)).toLower(icu::Locale::getRoot());
    }
    return lower;
  }

  // Merges the two neighbours whose token has the lowest id, until no two make a token.
  void Merge(const std::string& piece, std::vector<int>& ids) const {
    std::vector<std::string> parts;
    for (unsigned char byte : piece) parts.push_back(shown_[byte]);
    for (;;) {
      size_t best = 0;
      int lowest = static_cast<int>(ids_.size());
      for (size_t n = 1; n < parts.size(); ++n) {
        const auto token = ids_.find(parts[n - 1] + parts[n]);
        if (token != ids_.end() && token->second < lowest) best = n, lowest = token->second;
      }
      if (best == 0) break;
      parts[best - 1] += parts[best];
      parts.erase(parts.begin() + best);
    }
    for (const std::string& part : parts) ids.push_back(ids_.at(part));
  }

  std::map<std::string, int> ids_;
  bool lowers_;  // reads texts in lower case
  std::unique_ptr<icu::RegexPattern> pattern_;
  std::string shown_[256];
};

// A TFLite file; its signatures for one text are called run_1x<length>.
class Model {
 public:
  explicit Model(const std::string& file) {
    Check(LiteRtCreateEnvironment(0, nullptr, &environment_), "environment");
    Check(LiteRtCreateModelFromFile(environment_, file.c_str(), &model_), file.c_str());
    LiteRtOptions options;
    Check(LiteRtCreateOptions(&options), "options");
    Check(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu), "options");
    Check(LiteRtCreateCompiledModel(environment_, model_, options, &compiled_), file.c_str());
    LiteRtDestroyOptions(options);
    LiteRtParamIndex count;
    Check(LiteRtGetNumModelSignatures(model_, &count), "signatures");
    for (LiteRtParamIndex index = 0; index < count; ++index) {
      LiteRtSignature signature;
      const char* name;
      int length;
      Check(LiteRtGetModelSignature(model_, index, &signature), "signatures");
      Check(LiteRtGetSignatureKey(signature, &name), "signatures");
      if (std::sscanf(name, "run_1x%d", &length) == 1) signatures_[length] = {index, signature};
    }
  }

  ~Model() {
    LiteRtDestroyCompiledModel(compiled_);
    LiteRtDestroyModel(model_);
    LiteRtDestroyEnvironment(environment_);
  }

  // Returns the output for ids, which are padded to the shortest length that holds them.
  std::vector<float> Run(std::vector<int> ids, int padding) {
    const auto& [length, signature] = *signatures_.lower_bound(static_cast<int>(ids.size()));
    const LiteRtParamIndex index = signature.first;
    ids.resize(length, padding);
    LiteRtTensor tensor;
    LiteRtTensorBufferRequirements needed;
    LiteRtRankedTensorType type;

    Check(LiteRtGetSignatureInputTensorByIndex(signature.second, 0, &tensor), "input");
    Check(LiteRtGetRankedTensorType(tensor, &type), "input");
    Check(LiteRtGetCompiledModelInputBufferRequirements(compiled_, index, 0, &needed), "input");
    LiteRtTensorBuffer input = NewBuffer(type, needed);
    void* memory;
    Check(LiteRtLockTensorBuffer(input, &memory, kLiteRtTensorBufferLockModeWrite), "input");
    std::memcpy(memory, ids.data(), ids.size() * sizeof(int));
    Check(LiteRtUnlockTensorBuffer(input), "input");

    Check(LiteRtGetSignatureOutputTensorByIndex(signature.second, 0, &tensor), "output");
    Check(LiteRtGetRankedTensorType(tensor, &type), "output");
    Check(LiteRtGetCompiledModelOutputBufferRequirements(compiled_, index, 0, &needed), "output");
    LiteRtTensorBuffer output = NewBuffer(type, needed);
    Check(LiteRtRunCompiledModel(compiled_, index, 1, &input, 1, &output), "run");
    std::vector<float> values(type.layout.dimensions[1]);
    Check(LiteRtLockTensorBuffer(output, &memory, kLiteRtTensorBufferLockModeRead), "output");
    std::memcpy(values.data(), memory, values.size() * sizeof(float));
    Check(LiteRtUnlockTensorBuffer(output), "output");
    LiteRtDestroyTensorBuffer(input);
    LiteRtDestroyTensorBuffer(output);
    return values;
  }

 private:
  LiteRtTensorBuffer NewBuffer(const LiteRtRankedTensorType& type,
                               LiteRtTensorBufferRequirements needed) {
    LiteRtTensorBuffer buffer;
    Check(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &type, needed, &buffer),
          "buffer");
    return buffer;
  }

  LiteRtEnvironment environment_;
  LiteRtModel model_;
  LiteRtCompiledModel compiled_;
  std::map<int, std::pair<LiteRtParamIndex, LiteRtSignature>> signatures_;  // by length
};

// Sigmoid if several labels may be right at once, else softmax.
std::vector<double> Probabilities(const std::vector<float>& logits, bool multi_label) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> found;
  double sum = 0;
  for (float x : logits) {
    found.push_back(multi_label ? 1 / (1 + std::exp(-double{x})) : std::exp(double{x} - largest));
    sum += found.back();
  }
  for (double& x : found) x /= multi_label ? 1 : sum;
  return found;
}

int main(int count, char** arguments) try {
  if (count < 3) throw std::runtime_error("give the folder of a bundle, and texts");
  const std::string folder = std::string(arguments[1]) + "/";
  const nlohmann::json config = ReadJson(folder + "config.json");
  const nlohmann::json& sizes = config["architecture"];
  const Tokenizer tokenizer(ReadJson(folder + "tokenizer.json"));
  Model model(folder + "model.tflite");
  for (int n = 2; n < count; ++n) {
    std::vector<int> ids = tokenizer.Encode(arguments[n]);
    ids.resize(std::min(ids.size(), sizes["max_sequence_length"].get<size_t>() - 2));
    ids.insert(ids.begin(), sizes["start_id"].get<int>());
    ids.push_back(sizes["end_id"]);
    const std::vector<float> output = model.Run(ids, sizes["padding_id"]);
    nlohmann::json answer = {{"text", arguments[n]}};
    if (config["task"] == "classification") {
      const std::vector<double> found = Probabilities(output, sizes["multi_label"]);
      for (size_t label = 0; label < found.size(); ++label) {
        answer["probabilities"][config["labels"][label].get<std::string>()] = found[label];
      }
    } else {
      answer["output"] = output;
    }
    std::printf("%s\n", answer.dump().c_str());
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
