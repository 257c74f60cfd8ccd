/* Counts a process's calls of the allocator and its large copies; for LD_PRELOAD, made by
 * heap_counts.py, which says what is seen of them and what is not.
 *
 * glibc only: it has the allocator under second names, and those of its own calls that do not go
 * through the dynamic linker are not counted twice. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Octets from which on a copy is counted. */
enum { LARGE = 4096 };
enum { ALLOCATED, REALLOCATED, FREED, COPIED, MOVED, COUNTERS };

/* Read by name, in this order. */
unsigned long counted[COUNTERS];

static void count(int which, size_t amount) {
    __atomic_fetch_add(&counted[which], amount, __ATOMIC_RELAXED);
}

static void count_copy(int which, size_t octets) {
    if (octets >= LARGE)
        count(which, octets);
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

void *malloc(size_t size) {
    count(ALLOCATED, 1);
    return __libc_malloc(size);
}

void *calloc(size_t members, size_t size) {
    count(ALLOCATED, 1);
    return __libc_calloc(members, size);
}

void *memalign(size_t alignment, size_t size) {
    count(ALLOCATED, 1);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **result, size_t alignment, size_t size) {
    void *block = memalign(alignment, size);
    if (!block)
        return ENOMEM;
    *result = block;
    return 0;
}

void *realloc(void *block, size_t size) {
    if (!block)
        return malloc(size);
    size_t before = malloc_usable_size(block);
    uintptr_t was_at = (uintptr_t)block;
    void *moved = __libc_realloc(block, size);
    count(REALLOCATED, 1);
    if (moved && (uintptr_t)moved != was_at)
        count_copy(MOVED, before < size ? before : size);
    return moved;
}

void free(void *block) {
    if (block)
        count(FREED, 1);
    __libc_free(block);
}

static void *(*libc_memmove)(void *, const void *, size_t);

__attribute__((constructor)) static void find_memmove(void) {
    libc_memmove = (void *(*)(void *, const void *, size_t))dlsym(RTLD_NEXT, "memmove");
}

void *memmove(void *to, const void *from, size_t size) {
    count_copy(COPIED, size);
    if (libc_memmove)
        return libc_memmove(to, from, size);
    /* While the program is being loaded. Volatile, or the compiler makes this a call of memmove. */
    volatile char *target = to;
    const volatile char *source = from;
    if (target < source)
        while (size--)
            *target++ = *source++;
    else
        while (size--)
            target[size] = source[size];
    return to;
}

void *memcpy(void *to, const void *from, size_t size) { return memmove(to, from, size); }

void *mempcpy(void *to, const void *from, size_t size) {
    return (char *)memmove(to, from, size) + size;
}

/* What calls become where a program is built with _FORTIFY_SOURCE. */
void *__memmove_chk(void *to, const void *from, size_t size, size_t room) {
    if (size > room)
        abort();
    return memmove(to, from, size);
}

void *__memcpy_chk(void *to, const void *from, size_t size, size_t room) {
    return __memmove_chk(to, from, size, room);
}
