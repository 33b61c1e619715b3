/*
 * A long wire between two network namespaces: usage: wan PID NAME
 *
 * Makes two TUN devices, NAME in its own network namespace and `wan0` in the one of process PID, and carries the packets
 * of each to the other: late, at a limited rate, or never. Both ends keep their own TCP, which a relay would end for
 * them. Says `ready` once both devices are there.
 *
 * Reads lines of three numbers from standard input and answers each with `ok`: the delay each way in microseconds, the
 * rate each way in bytes per second (0: unlimited), and how many packets of a million are lost. What is under way then
 * arrives no later than what is sent next: order is kept, and a new distance counts at once. It ends with its standard
 * input, or with process PID, and the kernel removes both devices.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST_PACKET = 1600, MOST_WAITING = 16384, LONGEST_LINE = 128 };
static const int64_t SECOND = 1000000000;

struct packet {
    int64_t due; /* nanoseconds of the monotonic clock */
    ssize_t length;
    unsigned char bytes[];
};

struct direction {
    int from, to; /* TUN devices */
    struct packet *waiting[MOST_WAITING]; /* a ring, in the order of arrival */
    size_t first, count;
    int64_t is_free_at; /* when the last packet at the limited rate has left */
    uint32_t random; /* the same losses in every run */
};

static struct {
    int64_t delay; /* nanoseconds */
    double rate; /* bytes per second, 0: unlimited */
    uint32_t loss; /* of a million */
} settings;

static void require(int done, const char *what) {
    if (!done) {
        perror(what);
        exit(1);
    }
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int tun_device(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    require(device >= 0, "/dev/net/tun");
    strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    require(ioctl(device, TUNSETIFF, &request) == 0, name);
    return device;
}

/* A TUN device belongs to the network namespace in which its file was opened. */
static int tun_device_of(const char *pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/ns/net", pid);
    int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there = open(path, O_RDONLY | O_CLOEXEC);
    require(here >= 0 && there >= 0, path);
    require(setns(there, CLONE_NEWNET) == 0, path);
    int device = tun_device(name);
    require(setns(here, CLONE_NEWNET) == 0, "back");
    close(here);
    close(there);
    return device;
}

/* Xorshift (Marsaglia, 2003). */
static int is_lost(struct direction *way) {
    way->random ^= way->random << 13;
    way->random ^= way->random >> 17;
    way->random ^= way->random << 5;
    return way->random % 1000000 < settings.loss;
}

/* When the packet arrives that comes now. */
static int64_t due(struct direction *way, ssize_t length) {
    int64_t sent = now();
    if (settings.rate > 0) {
        if (way->is_free_at > sent)
            sent = way->is_free_at;
        sent += (int64_t)(length / settings.rate * SECOND);
        way->is_free_at = sent;
    }
    return sent + settings.delay;
}

static void take_in(struct direction *way) {
    static unsigned char bytes[LARGEST_PACKET];
    ssize_t length;
    while ((length = read(way->from, bytes, sizeof bytes)) > 0) {
        /* Only IPv4: the kernel's own words about IPv6 would be carried, counted and lost like packets. */
        if (bytes[0] >> 4 != 4 || way->count == MOST_WAITING || is_lost(way))
            continue;
        struct packet *packet = malloc(sizeof *packet + (size_t)length);
        require(packet != NULL, "malloc");
        packet->due = due(way, length);
        packet->length = length;
        memcpy(packet->bytes, bytes, (size_t)length);
        way->waiting[(way->first + way->count++) % MOST_WAITING] = packet;
    }
}

/* Returns when the next packet is due, at most `latest`. */
static int64_t deliver(struct direction *way, int64_t latest) {
    int64_t time = now();
    while (way->count) {
        struct packet *packet = way->waiting[way->first];
        if (packet->due > time)
            return packet->due < latest ? packet->due : latest;
        if (write(way->to, packet->bytes, (size_t)packet->length) < 0) {
            /* the device is not up, or not any more: lost, as on any wire */
        }
        free(packet);
        way->first = (way->first + 1) % MOST_WAITING;
        way->count--;
    }
    return latest;
}

static void hurry(struct direction *way) {
    int64_t latest = now() + settings.delay;
    way->is_free_at = 0;
    for (size_t each = 0; each < way->count; each++) {
        struct packet *packet = way->waiting[(way->first + each) % MOST_WAITING];
        if (packet->due > latest)
            packet->due = latest;
    }
}

/* Returns false at the end of standard input. */
static int obey(struct direction ways[2]) {
    static char line[LONGEST_LINE];
    static size_t length;
    ssize_t more = read(STDIN_FILENO, line + length, sizeof line - 1 - length);
    if (more <= 0)
        return 0;
    length += (size_t)more;
    line[length] = '\0';
    if (line[length - 1] != '\n')
        return length < sizeof line - 1;
    long delay;
    double rate;
    unsigned loss;
    if (sscanf(line, "%ld %lf %u", &delay, &rate, &loss) != 3)
        return 0;
    settings.delay = delay * 1000;
    settings.rate = rate;
    settings.loss = loss;
    hurry(&ways[0]);
    hurry(&ways[1]);
    length = 0;
    puts("ok");
    fflush(stdout);
    return 1;
}

int main(int count, char **words) {
    static struct direction ways[2] = {{.random = 2463534242}, {.random = 88172645}};
    if (count != 3) {
        fputs("usage: wan PID NAME\n", stderr);
        return 2;
    }
    /* A packet is late by its delay only, also on a busy machine; where that is forbidden, it is tried without. */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1});
    ways[0].from = ways[1].to = tun_device(words[2]);
    ways[1].from = ways[0].to = tun_device_of(words[1], "wan0");
    int process = (int)syscall(SYS_pidfd_open, atoi(words[1]), 0); /* our device keeps its namespace alive */
    require(process >= 0, words[1]);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int64_t next = INT64_MAX;
        for (int each = 0; each < 2; each++)
            next = deliver(&ways[each], next);
        int64_t pause = next - now();
        struct timespec time = {pause / SECOND, pause % SECOND};
        if (pause < 0)
            time = (struct timespec){0, 0};
        struct pollfd files[] = {
            {STDIN_FILENO, POLLIN, 0}, {process, POLLIN, 0}, {ways[0].from, POLLIN, 0}, {ways[1].from, POLLIN, 0}};
        ppoll(files, 4, next == INT64_MAX ? NULL : &time, NULL);
        take_in(&ways[0]); /* first: what has been sent knows nothing of new settings */
        take_in(&ways[1]);
        if ((files[0].revents && !obey(ways)) || files[1].revents || (files[2].revents | files[3].revents) & POLLERR)
            return 0;
    }
}
