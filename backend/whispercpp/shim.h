// The few calls into whisper.cpp that its Go bindings lack: loading with a choice of device, states,
// runs on them, the log. Nothing here throws: what the C++ below throws becomes an error string.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <whisper.h>

#ifdef __cplusplus
extern "C" {
#endif

// Codes of our own beside whisper.cpp's small negative ones.
enum {
    WP_THROWN = -1000,  // an exception; the state may be in any condition
    WP_ABORTED = -1001, // *abort was set before a window began
    WP_STATE_GONE = -7, // whisper.cpp's: it has freed the state under its caller
};

typedef struct wp_device {
    char name[64];         // "CUDA0", "CPU"
    char description[128]; // "NVIDIA A10G"
    bool gpu;
    uint64_t free_bytes;
} wp_device;

// What one run is asked for; the comments of whisper_full_params apply.
typedef struct wp_request {
    int32_t threads, beam_size, best_of;
    int32_t offset_ms, duration_ms, max_context, max_len, audio_ctx;
    bool translate, no_timestamps, token_times, split_on_word, suppress_nst;
    float temperature, temperature_inc, entropy_thold, logprob_thold, no_speech_thold, word_thold;
    const char * language; // NULL: detect
    const char * prompt;   // NULL: none
} wp_request;

typedef struct wp_token {
    int32_t id;
    float p, plog;
    int64_t t0, t1; // 10 ms
} wp_token;

enum { WP_ERROR_SIZE = 256 };

// Sends the library's log to the Go function whisperpoolLog.
void wp_route_log(void);

int wp_device_count(void);
bool wp_device_get(int index, wp_device * out);
// Tells whether the device can be opened; whisper.cpp falls back to the CPU where it cannot.
bool wp_device_opens(int index);

// NULL on failure, error is set where the reason was an exception.
struct whisper_context * wp_load(const char * path, bool use_gpu, int gpu_device, bool flash_attention, char * error);
void wp_unload(struct whisper_context * model);

struct whisper_state * wp_state_new(struct whisper_context * model, char * error);
void wp_state_free(struct whisper_state * state);

// 0 or one of the codes. It polls *abort between graph runs, the longest of which encodes a window.
int wp_run(struct whisper_context * model, struct whisper_state * state, const wp_request * request,
           const float * samples, int samples_count, const int32_t * abort, char * error);

// Copies the tokens of a segment, at most max of them, and returns how many there are.
int wp_tokens(struct whisper_state * state, int segment, wp_token * out, int max);

#ifdef __cplusplus
}
#endif
