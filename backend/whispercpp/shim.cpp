//go:build whispercpp

#include "shim.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <random>
#include <vector>

#include <ggml.h>

extern "C" {
void whisperpoolLog(int level, char * text); // log.go
// listener.go:
void whisperpoolSegments(uintptr_t listener, int window, int first, int count, float temperature);
bool whisperpoolToken(uintptr_t listener, const whisper_token_data * tokens, int count);
}

struct wp_state {
    whisper_state * inner;
    int audio_ctx;
    std::mt19937 * random; // the one that whisper.cpp never sets back, within inner; null where not found
    bool used;             // it has run before,
    bool many_rows;        // and what it decoded last may be more than one token for each decoder
};

namespace {

const int decoders_max = 8; // whisper.cpp's, which it keeps to itself

// guarded runs f and turns what it throws into failed and a message: an exception that reaches Go
// ends the process.
template <typename R, typename F> R guarded(R failed, char * error, F f) {
    try {
        return f();
    } catch (const std::exception & e) {
        if (error) {
            std::snprintf(error, WP_ERROR_SIZE, "%s", e.what());
        }
    } catch (...) {
        if (error) {
            std::snprintf(error, WP_ERROR_SIZE, "unknown exception");
        }
    }
    return failed;
}

void log_line(enum ggml_log_level level, const char * text, void *) {
    whisperpoolLog(int(level), const_cast<char *>(text));
}

bool must_abort(void * flag) {
    return __atomic_load_n(static_cast<const int32_t *>(flag), __ATOMIC_RELAXED) != 0;
}

// find_random looks for the generator of a new state's first decoder. whisper.cpp seeds it when the
// state is made and never again, and draws from it for beams and at temperatures above 0, so that an
// answer would depend on the requests before. The state's layout is its own secret, but of
// the 5 kB that a generator seeded with 0 holds there is only one copy.
std::mt19937 * find_random(whisper_state * state) {
    const std::mt19937 fresh(0);
    auto * begin = reinterpret_cast<char *>(state);
    auto * end = begin + malloc_usable_size(state);
    std::mt19937 * found = nullptr;
    for (auto * at = begin; at + sizeof fresh <= end; at += alignof(std::mt19937)) {
        if (std::memcmp(at, &fresh, sizeof fresh) == 0) {
            if (found) {
                return nullptr;
            }
            found = reinterpret_cast<std::mt19937 *>(at);
        }
    }
    return found;
}

// as_new takes from a state what the run before left in it and the next would use.
void as_new(whisper_context * model, wp_state * state, bool detected) {
    if (state->random) {
        *state->random = std::mt19937(0);
    }
    // The probability that nobody speaks is taken from the first row of logits, which is written only
    // where a window is begun with one token: with more, an old row is taken for it, and the maximum of
    // all rows for its own. In a new state they are 0; after language detection the first is right.
    if (state->used && !detected) {
        if (state->many_rows) { // one token makes it one row, by a public function
            const whisper_token sot = whisper_token_sot(model);
            whisper_decode_with_state(model, state->inner, &sot, 1, 0, 1);
        }
        const size_t rows = decoders_max; // room for the text's whole context is set aside
        std::fill_n(whisper_get_logits_from_state(state->inner), rows * whisper_n_vocab(model), 0.0f);
    }
    state->used = true;
    state->many_rows = false;
}

// run is what a run's callbacks see of it. Those for tokens come from several threads at once.
struct run {
    const wp_request & request;
    const int32_t * abort;
    bool aborted = false, given_up = false; // which whisper.cpp takes for a success
    int windows = 0, before = 0;            // before: attempts when this window began
    std::atomic<int> attempts{0}, longest{0};
    std::atomic<bool> begun{false}; // an attempt of which the first tokens are decoded and no more

    float temperature() const { return request.temperature + (attempts - before - 1) * request.temperature_inc; }
};

// whisper.cpp polls after it has encoded and not while it detects the language; asked before a window
// too, it never encodes one for nothing.
bool may_begin(struct whisper_context *, struct whisper_state *, void * user_data) {
    auto & r = *static_cast<run *>(user_data);
    r.aborted = must_abort(const_cast<int32_t *>(r.abort));
    r.given_up = !r.aborted && r.request.windows_max > 0 && r.windows == r.request.windows_max;
    if (r.aborted || r.given_up) {
        return false;
    }
    ++r.windows;
    r.before = r.attempts;
    return true;
}

bool must_stop(void * user_data) {
    const auto & r = *static_cast<run *>(user_data);
    return r.given_up || must_abort(const_cast<int32_t *>(r.abort));
}

// saw_tokens changes no logits: that it is called tells how far a sequence has come.
void saw_tokens(whisper_context *, whisper_state *, const whisper_token_data * tokens, int count, float *, void * user_data) {
    auto & r = *static_cast<run *>(user_data);
    if (count == 0) {
        ++r.attempts;
    }
    r.begun = count == 0;
    for (int longest = r.longest; count > longest && !r.longest.compare_exchange_weak(longest, count);) {
    }
    if (r.request.watch && !whisperpoolToken(r.request.listener, tokens, count)) {
        r.given_up = true;
    }
}

void saw_segments(whisper_context *, whisper_state * state, int count, void * user_data) {
    const auto & r = *static_cast<run *>(user_data);
    const int first = whisper_full_n_segments_from_state(state) - count;
    whisperpoolSegments(r.request.listener, r.windows, first, count, r.temperature());
}

whisper_full_params params_of(const wp_request & r) {
    auto p = whisper_full_default_params(r.beam_size > 1 ? WHISPER_SAMPLING_BEAM_SEARCH : WHISPER_SAMPLING_GREEDY);
    p.print_progress = p.print_realtime = p.print_timestamps = p.print_special = false;
    p.n_threads = r.threads;
    p.beam_search.beam_size = r.beam_size;
    p.greedy.best_of = r.best_of;
    p.offset_ms = r.offset_ms;
    p.duration_ms = r.duration_ms;
    if (r.max_context >= 0) {
        p.n_max_text_ctx = r.max_context;
    }
    p.max_len = r.max_len;
    p.translate = r.translate;
    p.no_timestamps = r.no_timestamps;
    p.token_timestamps = r.token_times;
    p.split_on_word = r.split_on_word;
    p.suppress_nst = r.suppress_nst;
    p.temperature = r.temperature;
    p.temperature_inc = r.temperature_inc;
    p.entropy_thold = r.entropy_thold;
    p.logprob_thold = r.logprob_thold;
    p.no_speech_thold = r.no_speech_thold;
    p.thold_pt = r.word_thold;
    p.language = r.language;
    p.initial_prompt = r.prompt;
    p.carry_initial_prompt = r.carry_prompt;
    p.tdrz_enable = r.tiny_diarize;
    return p;
}

} // namespace

extern "C" {

void wp_route_log(void) {
    whisper_log_set(log_line, nullptr);
    ggml_log_set(log_line, nullptr);
    // What ggml says before it ends the process goes the same way. Without this it starts a debugger if
    // there is one, which prints what functions were called with.
    ggml_set_abort_callback([](const char * message) { log_line(GGML_LOG_LEVEL_ERROR, message, nullptr); });
    setenv("GGML_NO_BACKTRACE", "1", 0);
}

struct whisper_context * wp_load(const char * path, bool use_gpu, int gpu_device, bool flash_attention, char * error) {
    return guarded<whisper_context *>(nullptr, error, [=] {
        auto params = whisper_context_default_params();
        params.use_gpu = use_gpu;
        params.gpu_device = gpu_device;
        params.flash_attn = flash_attention;
        return whisper_init_from_file_with_params_no_state(path, params);
    });
}

void wp_unload(struct whisper_context * model) {
    guarded(0, nullptr, [=] { whisper_free(model); return 0; });
}

wp_state * wp_state_new(struct whisper_context * model, int audio_ctx, char * error) {
    return guarded<wp_state *>(nullptr, error, [=]() -> wp_state * {
        std::unique_ptr<wp_state> made(new wp_state{nullptr, audio_ctx, nullptr, false, false});
        made->inner = whisper_init_state(model);
        if (!made->inner) {
            return nullptr;
        }
        made->random = find_random(made->inner);
        if (audio_ctx > 0) {
            // Language detection has the context of the run before: let there be one, which ends
            // before it encodes anything.
            auto params = whisper_full_default_params(WHISPER_SAMPLING_GREEDY);
            params.print_progress = false;
            params.n_threads = 1;
            params.audio_ctx = audio_ctx;
            params.encoder_begin_callback = [](whisper_context *, whisper_state *, void *) { return false; };
            const std::vector<float> silence(WHISPER_SAMPLE_RATE);
            if (whisper_full_with_state(model, made->inner, params, silence.data(), int(silence.size())) != 0) {
                whisper_free_state(made->inner);
                return nullptr;
            }
        }
        return made.release();
    });
}

void wp_state_free(wp_state * state) {
    guarded(0, nullptr, [=] {
        if (state) {
            whisper_free_state(state->inner);
        }
        delete state;
        return 0;
    });
}

struct whisper_state * wp_state_inner(wp_state * state) { return state->inner; }

bool wp_state_repeats(const wp_state * state) { return state->random != nullptr; }

int wp_run(struct whisper_context * model, wp_state * state, const wp_request * request,
           const float * samples, int samples_count, const int32_t * abort, wp_outcome * outcome, char * error) {
    run r{*request, abort};
    const int code = guarded(int(WP_THROWN), error, [&] {
        as_new(model, state, request->detected);
        auto params = params_of(*request);
        params.audio_ctx = state->audio_ctx;
        params.abort_callback = must_stop;
        params.encoder_begin_callback = may_begin;
        params.logits_filter_callback = saw_tokens;
        params.new_segment_callback = saw_segments;
        params.abort_callback_user_data = params.encoder_begin_callback_user_data =
            params.logits_filter_callback_user_data = params.new_segment_callback_user_data = &r;
        const int code = whisper_full_with_state(model, state->inner, params, samples, samples_count);
        state->many_rows = code != 0 || r.begun;
        if (code == WP_STATE_GONE) {
            state->inner = nullptr;
        }
        return code == WP_STATE_GONE ? code : r.aborted ? int(WP_ABORTED) : r.given_up ? int(WP_GIVEN_UP) : code;
    });
    *outcome = wp_outcome{r.windows, r.attempts, r.longest};
    return code;
}

int wp_detect(struct whisper_context * model, wp_state * state, const float * samples, int samples_count,
              int threads, int languages, float * probabilities, char * error) {
    return guarded(int(WP_THROWN), error, [=] {
        if (samples_count > 0 && whisper_pcm_to_mel_with_state(model, state->inner, samples, samples_count, threads) != 0) {
            return -2;
        }
        state->used = true;
        state->many_rows = false;
        const int best = whisper_lang_auto_detect_with_state(model, state->inner, 0, threads, probabilities);
        if (best < 0) {
            return best;
        }
        // A model without the newest languages has other tokens in their places.
        float sum = 0;
        for (int i = 0; i <= whisper_lang_max_id(); ++i) {
            sum += probabilities[i] *= i < languages;
        }
        for (int i = 0; i < languages && sum > 0; ++i) {
            probabilities[i] /= sum;
        }
        return 0;
    });
}

int wp_tokens(struct whisper_state * state, int segment, wp_token * out, int max) {
    return guarded(0, nullptr, [=] {
        const int count = whisper_full_n_tokens_from_state(state, segment);
        for (int i = 0; i < std::min(count, max); ++i) {
            const auto data = whisper_full_get_token_data_from_state(state, segment, i);
            out[i] = wp_token{data.id, data.tid, data.p, data.plog, data.t0, data.t1};
        }
        return count;
    });
}

} // extern "C"
