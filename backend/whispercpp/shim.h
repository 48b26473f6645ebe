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
    WP_GIVEN_UP = -1002, // it would have encoded more than windows_max, or whisperpoolToken said no
    WP_STATE_GONE = -7, // whisper.cpp's: it has freed the state under its caller
};

// A whisper_state with one encoder context for life.
typedef struct wp_state wp_state;

// What one run is asked for; the comments of whisper_full_params apply.
typedef struct wp_request {
    int32_t threads, beam_size, best_of;
    int32_t offset_ms, duration_ms, max_context, max_len;
    int32_t windows_max; // it stops before it encodes more than these; 0: no limit
    bool translate, no_timestamps, token_times, split_on_word, suppress_nst, carry_prompt, tiny_diarize;
    bool detected; // wp_detect has just found out the language of the same audio
    bool watch; // whisperpoolToken is asked at each token whether to go on; only where one decoder works
    float temperature, temperature_inc, entropy_thold, logprob_thold, no_speech_thold, word_thold;
    const char * language; // a code
    const char * prompt;   // NULL: none
    uintptr_t listener;    // a cgo.Handle for whisperpoolSegments and whisperpoolToken
} wp_request;

// What became of a run, whole or not.
typedef struct wp_outcome {
    int32_t windows;  // encoded
    int32_t attempts; // to decode a window; more than windows: some were tried again, hotter
    int32_t longest;  // tokens of the longest sequence
} wp_outcome;

typedef struct wp_token {
    int32_t id, tid; // tid: the likeliest timestamp, which is id for a timestamp
    float p, plog;
    int64_t t0, t1; // 10 ms
} wp_token;

enum { WP_ERROR_SIZE = 256 };

// Sends the library's log, and what it says when it ends the process, to the Go function whisperpoolLog.
void wp_route_log(void);

// NULL on failure, error is set where the reason was an exception.
struct whisper_context * wp_load(const char * path, bool use_gpu, int gpu_device, bool flash_attention, char * error);
void wp_unload(struct whisper_context * model);

// Makes a state for an encoder context of so many positions, 0 for the model's own. NULL on failure.
wp_state * wp_state_new(struct whisper_context * model, int audio_ctx, char * error);
void wp_state_free(wp_state * state);
struct whisper_state * wp_state_inner(wp_state * state);
// Tells whether each run draws the same random numbers, whatever the state did before.
bool wp_state_repeats(const wp_state * state);

// 0 or one of the codes; after WP_STATE_GONE nothing but wp_state_free may follow. It polls *abort
// between graph runs, the longest of which encodes a window. Without samples it goes on with the
// spectrum that wp_detect left.
int wp_run(struct whisper_context * model, wp_state * state, const wp_request * request,
           const float * samples, int samples_count, const int32_t * abort, wp_outcome * outcome, char * error);

// Writes the probability of each of whisper's languages, by its number; languages tells how many the
// model knows, the others get 0. Without samples it looks at those of the run before. It returns 0 or
// a code of whisper.cpp's, and does not poll.
int wp_detect(struct whisper_context * model, wp_state * state, const float * samples, int samples_count,
              int threads, int languages, float * probabilities, char * error);

// Copies the tokens of a segment, at most max of them, and returns how many there are.
int wp_tokens(struct whisper_state * state, int segment, wp_token * out, int max);

#ifdef __cplusplus
}
#endif
