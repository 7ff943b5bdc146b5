/*
 * Preloaded into the children of the fault suite, and into nothing else: makes the wall clock jump, fills the disk, and
 * ends the ClickHouse engine where it renames a part. What is to happen is said by files in the folder FAULTS_SHIM:
 *
 *   clock     how many milliseconds to add to the wall clock
 *   full      while it is there, the disk says that it has no room; whatever takes room all the same fails with ENOSPC,
 *             a little later: what was begun before may still be under way
 *   rename    "before" or "after": at the next rename of an inserted part the process is killed then; "fail": the rename
 *             fails once with ENOSPC
 *
 * The files are looked at again every 20 ms, or at a rename at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static atomic_llong looked_at_ns;
static atomic_llong offset_ns;
static atomic_int is_full;
static atomic_llong full_since_ns;

#define FULL_AFTER_NS 2000000000LL

#define REAL(name) \
	static __typeof__(name) *real; \
	if (!real) \
		real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int path_of(const char *name, char *path, size_t size)
{
	const char *folder = getenv("FAULTS_SHIM");
	return folder && snprintf(path, size, "%s/%s", folder, name) < (int)size;
}

/* Reads the beginning of a file without any function that is replaced below; -1 if it is not there. */
static int peek(const char *name, char *text, size_t size)
{
	char path[4096];
	ssize_t length;
	int file;

	if (!path_of(name, path, sizeof(path)))
		return -1;
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return -1;
	length = read(file, text, size - 1);
	close(file);
	text[length < 0 ? 0 : length] = 0;
	return 0;
}

static int real_clock_gettime(clockid_t clock, struct timespec *time)
{
	REAL(clock_gettime);
	return real(clock, time);
}

static void look(void)
{
	struct timespec now;
	char text[32];
	long long now_ns, before = looked_at_ns;
	int saved = errno;

	real_clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = now.tv_sec * 1000000000LL + now.tv_nsec;
	if (now_ns - before < 20000000 || !atomic_compare_exchange_strong(&looked_at_ns, &before, now_ns))
		return;
	offset_ns = peek("clock", text, sizeof(text)) == 0 ? atoll(text) * 1000000 : 0;
	if (peek("full", text, sizeof(text)) != 0)
		is_full = 0;
	else if (!is_full) {
		full_since_ns = now_ns;
		is_full = 1;
	} else if (now_ns - full_since_ns > FULL_AFTER_NS)
		is_full = 2;
	errno = saved;
}

static long long wall_offset_ns(void)
{
	look();
	return offset_ns;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int result = real_clock_gettime(clock, time);

	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		long long ns = time->tv_sec * 1000000000LL + time->tv_nsec + wall_offset_ns();
		time->tv_sec = ns / 1000000000;
		time->tv_nsec = ns % 1000000000;
	}
	return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &now);
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *result)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}

/*
 * The kernel ends these waits by its own clock. They are told in the wall time that the process was shown: without this
 * a clock that is ahead would look like one that is set back during the wait, by which librdkafka's waits are prolonged.
 */
static struct timespec of_kernel(const struct timespec *deadline)
{
	long long ns = deadline->tv_sec * 1000000000LL + deadline->tv_nsec - wall_offset_ns();
	struct timespec kernel = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	return kernel;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict deadline)
{
	struct timespec kernel = of_kernel(deadline);
	REAL(cnd_timedwait);
	return real(condition, mutex, &kernel);
}

/* Files have no room; pipes, sockets and the log on the standard streams have. */
static int has_no_room(int file)
{
	struct stat about;

	look();
	return is_full == 2 && file > 2 && fstat(file, &about) == 0 && S_ISREG(about.st_mode);
}

#define ROOM_OR_FAIL(file) \
	if (has_no_room(file)) { \
		errno = ENOSPC; \
		return -1; \
	}

ssize_t write(int file, const void *data, size_t size)
{
	REAL(write);
	ROOM_OR_FAIL(file)
	return real(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at)
{
	REAL(pwrite);
	ROOM_OR_FAIL(file)
	return real(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at)
{
	REAL(pwrite64);
	ROOM_OR_FAIL(file)
	return real(file, data, size, at);
}

ssize_t writev(int file, const struct iovec *data, int count)
{
	REAL(writev);
	ROOM_OR_FAIL(file)
	return real(file, data, count);
}

int fsync(int file)
{
	REAL(fsync);
	ROOM_OR_FAIL(file)
	return real(file);
}

int fdatasync(int file)
{
	REAL(fdatasync);
	ROOM_OR_FAIL(file)
	return real(file);
}

int fallocate(int file, int mode, off_t at, off_t size)
{
	REAL(fallocate);
	ROOM_OR_FAIL(file)
	return real(file, mode, at, size);
}

int ftruncate(int file, off_t size)
{
	REAL(ftruncate);
	ROOM_OR_FAIL(file)
	return real(file, size);
}

int statvfs(const char *restrict path, struct statvfs *restrict disk)
{
	int result;
	REAL(statvfs);

	result = real(path, disk);
	look();
	if (result == 0 && is_full)
		disk->f_bfree = disk->f_bavail = 0;
	return result;
}

int statfs(const char *path, struct statfs *disk)
{
	int result;
	REAL(statfs);

	result = real(path, disk);
	look();
	if (result == 0 && is_full)
		disk->f_bfree = disk->f_bavail = 0;
	return result;
}

/* ClickHouse moves an inserted part from tmp_insert_NAME to NAME: with that it is there. */
int rename(const char *from, const char *to)
{
	char what[16], path[4096];
	int result;
	REAL(rename);

	if (!strstr(from, "/tmp_insert_") || peek("rename", what, sizeof(what)) != 0)
		return real(from, to);
	/* Once: the file is gone before anything happens. */
	if (!path_of("rename", path, sizeof(path)) || unlink(path) != 0)
		return real(from, to);
	if (strncmp(what, "before", 6) == 0)
		kill(getpid(), SIGKILL);
	if (strncmp(what, "fail", 4) == 0) {
		errno = ENOSPC;
		return -1;
	}
	result = real(from, to);
	kill(getpid(), SIGKILL);
	return result;
}
