// Any server against the script dialogue.
#include "dialogue_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return poise::health::fuzz_dialogue(poise::config::ProbeType::script, data, size);
}
