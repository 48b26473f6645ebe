// whisper.cpp's detector of speech, Silero's network. Nothing here throws: what the C++ below throws becomes an
// error string.
#pragma once

#include <stdbool.h>

#include <whisper.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { WP_VAD_WINDOW = 512 }; // samples for each probability

// Loads the network, to be run on one thread of the CPU. NULL on failure; error is set where the reason was an
// exception.
struct whisper_vad_context * wp_vad_load(const char * path, char * error);
void wp_vad_free(struct whisper_vad_context * vad);

// Writes the probability that somebody speaks for each WP_VAD_WINDOW of the samples, the last being filled up
// with silence, and tells whether it could. The network remembers what it heard, until it is told to forget.
bool wp_vad_hear(struct whisper_vad_context * vad, bool forget, const float * samples, int samples_count,
                 float * probabilities, char * error);

#ifdef __cplusplus
}
#endif
