//go:build whispercpp

#include "backends.h"

#include <cstdio>
#include <cstring>

#include <dlfcn.h>
#include <link.h>

#include <ggml-backend.h>

namespace {

void say(char * reason, const char * text) { std::snprintf(reason, WP_REASON_SIZE, "%s", text ? text : "no reason given"); }

// Called for each library that is loaded, until it returns something else than 0.
int is_ggml(struct dl_phdr_info * info, size_t, void * out) {
    const char * slash = info->dlpi_name ? std::strrchr(info->dlpi_name, '/') : nullptr;
    if (!slash || std::strncmp(slash, "/libggml.so", std::strlen("/libggml.so")) != 0) {
        return 0;
    }
    std::snprintf(static_cast<char *>(out), WP_PATH_SIZE, "%.*s", int(slash - info->dlpi_name), info->dlpi_name);
    return 1;
}

// The driver's own interface, of which NVIDIA keeps the binary form: looked up, not linked, so that
// this runs where no driver is.
struct driver_calls {
    int (*init)(unsigned flags);
    int (*version)(int * out);
    int (*count)(int * out);
    int (*name_of_error)(int code, const char ** out);
};

bool find_calls(void * library, driver_calls * calls) {
    calls->init = reinterpret_cast<decltype(calls->init)>(dlsym(library, "cuInit"));
    calls->version = reinterpret_cast<decltype(calls->version)>(dlsym(library, "cuDriverGetVersion"));
    calls->count = reinterpret_cast<decltype(calls->count)>(dlsym(library, "cuDeviceGetCount"));
    calls->name_of_error = reinterpret_cast<decltype(calls->name_of_error)>(dlsym(library, "cuGetErrorName"));
    return calls->init && calls->version && calls->count && calls->name_of_error;
}

} // namespace

extern "C" {

bool wp_library_folder(char * out) { return dl_iterate_phdr(is_ggml, out) != 0; }

int wp_backend_score(const char * path, char * reason) {
    void * library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        say(reason, dlerror());
        return -1;
    }
    const auto score = reinterpret_cast<int (*)()>(dlsym(library, "ggml_backend_score"));
    const int result = score ? score() : 1; // one without is for every processor
    dlclose(library);
    return result;
}

int wp_backend_load(const char * path, char * reason) {
    // ggml's release builds keep dlopen's reason to themselves, so it is asked here first.
    void * library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        say(reason, dlerror());
        return -1;
    }
    const auto backend = ggml_backend_load(path);
    dlclose(library); // ggml holds it by now
    if (!backend) {
        say(reason, "it is not a backend of the ggml that this was built with");
        return -1;
    }
    return int(ggml_backend_reg_dev_count(backend));
}

void wp_driver_probe(wp_driver * out) {
    *out = wp_driver{};
    void * library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); // stays: CUDA uses the same
    if (!library) {
        say(out->reason, dlerror());
        return;
    }
    driver_calls calls{};
    if (!find_calls(library, &calls)) {
        say(out->reason, "libcuda.so.1 lacks the functions of an NVIDIA driver");
        return;
    }
    out->present = true;
    if (calls.version(&out->version) != 0) {
        out->version = 0;
    }
    int code = calls.init(0);
    if (code == 0) {
        code = calls.count(&out->devices);
    }
    out->works = code == 0;
    if (code != 0) {
        const char * name = nullptr;
        if (calls.name_of_error(code, &name) != 0 || !name) {
            name = "an error that it has no name for";
        }
        say(out->reason, name);
    }
}

int wp_found_count(void) { return int(ggml_backend_dev_count()); }

void wp_found_get(int index, wp_found * out) {
    auto * device = ggml_backend_dev_get(size_t(index));
    const auto type = ggml_backend_dev_type(device);
    *out = wp_found{};
    std::snprintf(out->name, sizeof out->name, "%s", ggml_backend_dev_name(device));
    std::snprintf(out->description, sizeof out->description, "%s", ggml_backend_dev_description(device));
    out->gpu = type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU;
}

bool wp_found_opens(int index) {
    auto * backend = ggml_backend_dev_init(ggml_backend_dev_get(size_t(index)), nullptr);
    if (!backend) {
        return false;
    }
    ggml_backend_free(backend);
    return true;
}

void wp_found_memory(int index, uint64_t * free_bytes, uint64_t * total_bytes) {
    size_t unused = 0, all = 0;
    ggml_backend_dev_memory(ggml_backend_dev_get(size_t(index)), &unused, &all);
    *free_bytes = unused;
    *total_bytes = all;
}

void wp_found_slot(int index, char * out, size_t size) {
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(ggml_backend_dev_get(size_t(index)), &props);
    std::snprintf(out, size, "%s", props.device_id ? props.device_id : "");
}

} // extern "C"
