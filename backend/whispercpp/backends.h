// ggml's backends as libraries of their own: what can be loaded and why not, what the NVIDIA driver
// says of itself, and the devices that came of it. Nothing here throws.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { WP_REASON_SIZE = 512, WP_PATH_SIZE = 4096 };

// The folder in which the dynamic linker found libggml.so; false where it is part of the binary.
bool wp_library_folder(char * out); // WP_PATH_SIZE

// How well a backend suits this processor: 0 if not at all, -1 if it cannot be loaded, and why.
int wp_backend_score(const char * path, char * reason);
// Loads a backend for good and returns its number of devices; -1 and why if it cannot be.
int wp_backend_load(const char * path, char * reason);

typedef struct wp_driver {
    bool present;      // libcuda.so.1 is there and whole
    bool works;        // and could be initialised
    int32_t version;   // of CUDA that it can do at most: 12040 for 12.4; 0 where not known
    int32_t devices;   // NVIDIA cards that this process may use
    char reason[WP_REASON_SIZE]; // in the dynamic linker's or the driver's words, where something is wrong
} wp_driver;

void wp_driver_probe(wp_driver * out);

typedef struct wp_found {
    char name[64];         // "CUDA0", "CPU"
    char description[128]; // "NVIDIA A10G"
    bool gpu;
} wp_found;

int wp_found_count(void);
void wp_found_get(int index, wp_found * out);
// Tells whether the device can be opened; whisper.cpp falls back to the CPU where it cannot.
bool wp_found_opens(int index);
// Bytes of the device's memory that are free, and of all of it. On a GPU the first call makes a context there, which
// takes some hundred MB.
void wp_found_memory(int index, uint64_t * free_bytes, uint64_t * total_bytes);
// Where the card sits, "0000:01:00.0"; "" where it is not told. Makes a context as wp_found_memory does.
void wp_found_slot(int index, char * out, size_t size);

#ifdef __cplusplus
}
#endif
