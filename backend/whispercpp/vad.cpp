//go:build whispercpp

#include "vad.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>

#include "shim.h"

namespace {

void keep(const char * reason, char * error) { std::snprintf(error, WP_ERROR_SIZE, "%s", reason); }

} // namespace

extern "C" {

struct whisper_vad_context * wp_vad_load(const char * path, char * error) {
    try {
        auto params = whisper_vad_default_context_params();
        params.use_gpu = false; // whisper.cpp runs it on the CPU in any case
        params.n_threads = 1;   // its matrices are too small for more
        return whisper_vad_init_from_file_with_params(path, params);
    } catch (const std::exception & e) {
        keep(e.what(), error);
    } catch (...) {
        keep("unknown exception", error);
    }
    return nullptr;
}

void wp_vad_free(struct whisper_vad_context * vad) { whisper_vad_free(vad); }

bool wp_vad_hear(struct whisper_vad_context * vad, bool forget, const float * samples, int samples_count,
                 float * probabilities, char * error) {
    try {
        if (forget) {
            whisper_vad_reset_state(vad);
        }
        // Where a window fails whisper.cpp leaves the rest as it was and calls it a success. What was there before
        // belongs to other audio: it is made to show.
        std::fill_n(whisper_vad_probs(vad), whisper_vad_n_probs(vad), std::numeric_limits<float>::quiet_NaN());
        const int windows = (samples_count + WP_VAD_WINDOW - 1) / WP_VAD_WINDOW;
        if (!whisper_vad_detect_speech_no_reset(vad, samples, samples_count) || whisper_vad_n_probs(vad) != windows) {
            return false;
        }
        std::copy_n(whisper_vad_probs(vad), windows, probabilities);
        return std::none_of(probabilities, probabilities + windows, [](float p) { return std::isnan(p); });
    } catch (const std::exception & e) {
        keep(e.what(), error);
    } catch (...) {
        keep("unknown exception", error);
    }
    return false;
}

} // extern "C"
