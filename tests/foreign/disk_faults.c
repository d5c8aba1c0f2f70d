/* Faults below Python and SQLite, for LD_PRELOAD: while the folder FAULTS has a file named
 *
 *   hang     no fsync or fdatasync of a file whose path holds FAULTY returns
 *   full     no such file grows; what was allocated takes writes, as on a full disk
 *   threads  no thread starts
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int has_begun(const char *fault) {
    const char *folder = getenv("FAULTS");
    char path[PATH_MAX];
    if (folder == NULL)
        return 0;
    snprintf(path, sizeof path, "%s/%s", folder, fault);
    return access(path, F_OK) == 0;
}

static int is_faulty(int descriptor) {
    const char *part = getenv("FAULTY");
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (part == NULL || length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

static void hang(int descriptor) {
    while (has_begun("hang") && is_faulty(descriptor))
        usleep(10000);
}

static int is_refused(int descriptor, off_t end) {
    struct stat status;
    if (!has_begun("full") || !is_faulty(descriptor) || fstat(descriptor, &status) != 0)
        return 0;
    errno = ENOSPC;
    return end > status.st_size;
}

int fsync(int descriptor) {
    hang(descriptor);
    return syscall(SYS_fsync, descriptor);
}

int fdatasync(int descriptor) {
    hang(descriptor);
    return syscall(SYS_fdatasync, descriptor);
}

ssize_t pwrite64(int descriptor, const void *data, size_t count, off_t offset) {
    if (is_refused(descriptor, offset + (off_t)count))
        return -1;
    return syscall(SYS_pwrite64, descriptor, data, count, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t count, off_t offset) {
    return pwrite64(descriptor, data, count, offset);
}

ssize_t write(int descriptor, const void *data, size_t count) {
    off_t here = has_begun("full") ? lseek(descriptor, 0, SEEK_CUR) : -1;
    if (here >= 0 && is_refused(descriptor, here + (off_t)count))
        return -1;
    return syscall(SYS_write, descriptor, data, count);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (has_begun("threads"))
        return EAGAIN;
    if (real == NULL)
        real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, start, argument);
}
