/* A stand-in for the NVIDIA driver's library, with the calls of `remote/setup/ask_cuda.py`.

   LIBCUDA_FAULTS makes calls fail: "cuInit=802", "cuMemAlloc_v2@1=2" on GPU 1 only, "count=8", "mode@0=2",
   "cuInit=hang", "cuInit=crash". LIBCUDA_CALLS is a file in which each call is noted. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int device;

static const char *value(const char *name) {
  const char *faults = getenv("LIBCUDA_FAULTS");
  char numbered[80];
  snprintf(numbered, sizeof numbered, "%s@%d", name, device);
  for (const char *at = faults ? faults : ""; *at; at += strcspn(at, " "), at += *at == ' ') {
    size_t length = strcspn(at, "= ");
    if ((length == strlen(name) && !strncmp(at, name, length)) ||
        (length == strlen(numbered) && !strncmp(at, numbered, length)))
      return at + length + 1;
  }
  return "0";
}

static int call(const char *name) {
  const char *path = getenv("LIBCUDA_CALLS"), *fault = value(name);
  FILE *calls = path ? fopen(path, "a") : NULL;
  if (calls) {
    fprintf(calls, "%s %d\n", name, device);
    fclose(calls);
  }
  if (!strncmp(fault, "hang", 4)) sleep(600);
  if (!strncmp(fault, "crash", 5)) abort();
  return atoi(fault);
}

int cuInit(unsigned flags) { return call("cuInit"); }
int cuDriverGetVersion(int *version) { *version = 12040; return call("cuDriverGetVersion"); }

/* As the real one: the machine's own CUDA_VISIBLE_DEVICES hides GPUs. */
int cuDeviceGetCount(int *count) {
  *count = getenv("CUDA_VISIBLE_DEVICES") ? 0 : atoi(value("count"));
  return call("cuDeviceGetCount");
}

int cuDeviceGet(int *handle, int number) { *handle = device = number; return call("cuDeviceGet"); }

int cuDeviceGetAttribute(int *result, int attribute, int handle) {
  *result = attribute == 20 ? atoi(value("mode")) : -1;
  return call("cuDeviceGetAttribute");
}

int cuDevicePrimaryCtxRetain(void **context, int handle) {
  *context = &device;
  return handle == device ? call("cuDevicePrimaryCtxRetain") : 101;
}

int cuCtxSetCurrent(void *context) { return context && context != &device ? 201 : call("cuCtxSetCurrent"); }

int cuMemAlloc_v2(uint64_t *memory, size_t size) {
  *memory = 0x7f0000000000;
  return size == 1 << 20 ? call("cuMemAlloc_v2") : 1;
}

int cuMemFree_v2(uint64_t memory) { return memory == 0x7f0000000000 ? call("cuMemFree_v2") : 1; }
int cuDevicePrimaryCtxRelease(int handle) { return handle == device ? call("cuDevicePrimaryCtxRelease") : 101; }
