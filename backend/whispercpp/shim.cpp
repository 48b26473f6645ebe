//go:build whispercpp

#include "shim.h"

#include <algorithm>
#include <cstdio>
#include <exception>

#include <ggml-backend.h>

extern "C" void whisperpoolLog(int level, char * text); // log.go

namespace {

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

bool is_gpu(ggml_backend_dev_t device) {
    const auto type = ggml_backend_dev_type(device);
    return type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

bool must_abort(void * flag) {
    return __atomic_load_n(static_cast<const int32_t *>(flag), __ATOMIC_RELAXED) != 0;
}

// polled is what a run's callbacks look at.
struct polled {
    const int32_t * abort;
    bool stopped; // before a window
};

// whisper.cpp polls after it has encoded and not while it detects the language; asked before a window
// too, it never encodes one for nothing. It takes the answer no for a success, hence stopped.
bool may_begin(struct whisper_context *, struct whisper_state *, void * user_data) {
    auto * p = static_cast<polled *>(user_data);
    p->stopped = must_abort(const_cast<int32_t *>(p->abort));
    return !p->stopped;
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
    p.audio_ctx = r.audio_ctx;
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
    return p;
}

} // namespace

extern "C" {

void wp_route_log(void) { whisper_log_set(log_line, nullptr); ggml_log_set(log_line, nullptr); }

int wp_device_count(void) {
    return guarded(0, nullptr, [] { return int(ggml_backend_dev_count()); });
}

bool wp_device_get(int index, wp_device * out) {
    return guarded(false, nullptr, [=] {
        auto * device = ggml_backend_dev_get(size_t(index));
        *out = wp_device{};
        std::snprintf(out->name, sizeof out->name, "%s", ggml_backend_dev_name(device));
        std::snprintf(out->description, sizeof out->description, "%s", ggml_backend_dev_description(device));
        out->gpu = is_gpu(device);
        size_t free_bytes = 0, total_bytes = 0;
        ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
        out->free_bytes = free_bytes;
        return true;
    });
}

bool wp_device_opens(int index) {
    return guarded(false, nullptr, [=] {
        auto * backend = ggml_backend_dev_init(ggml_backend_dev_get(size_t(index)), nullptr);
        if (!backend) {
            return false;
        }
        ggml_backend_free(backend);
        return true;
    });
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

struct whisper_state * wp_state_new(struct whisper_context * model, char * error) {
    return guarded<whisper_state *>(nullptr, error, [=] { return whisper_init_state(model); });
}

void wp_state_free(struct whisper_state * state) {
    guarded(0, nullptr, [=] { whisper_free_state(state); return 0; });
}

int wp_run(struct whisper_context * model, struct whisper_state * state, const wp_request * request,
           const float * samples, int samples_count, const int32_t * abort, char * error) {
    return guarded(int(WP_THROWN), error, [=] {
        auto params = params_of(*request);
        params.abort_callback = must_abort;
        params.abort_callback_user_data = const_cast<int32_t *>(abort);
        polled p{abort, false};
        params.encoder_begin_callback = may_begin;
        params.encoder_begin_callback_user_data = &p;
        const int code = whisper_full_with_state(model, state, params, samples, samples_count);
        return p.stopped ? int(WP_ABORTED) : code;
    });
}

int wp_tokens(struct whisper_state * state, int segment, wp_token * out, int max) {
    return guarded(0, nullptr, [=] {
        const int count = whisper_full_n_tokens_from_state(state, segment);
        for (int i = 0; i < std::min(count, max); ++i) {
            const auto data = whisper_full_get_token_data_from_state(state, segment, i);
            out[i] = wp_token{data.id, data.p, data.plog, data.t0, data.t1};
        }
        return count;
    });
}

} // extern "C"
