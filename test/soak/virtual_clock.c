/*
 * virtual_clock.c
 *	  A clock that jumps, for processes that are started with this library in
 *	  LD_PRELOAD.
 *
 * The file that VIRTUAL_CLOCK names holds eight bytes: how many microseconds
 * the clock is ahead of the machine's.  Whoever writes there moves the clock of
 * all processes at once.  Only the time of day moves; what is waited for by the
 * monotonic clock is not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MICROSECONDS	INT64_C(1000000)

static int	(*real_clock_gettime) (clockid_t, struct timespec *);
static const volatile int64_t *ahead = NULL;

__attribute__((constructor)) static void
open_clock(void)
{
	const char *path = getenv("VIRTUAL_CLOCK");
	int			file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	void	   *memory;

	/* ISO C has no other way from an object to a function */
	*(void **) &real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (file < 0)
		return;
	memory = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
	close(file);
	if (memory != MAP_FAILED)
		ahead = memory;
}

int
clock_gettime(clockid_t clock, struct timespec *at)
{
	int			result;
	int64_t		nanoseconds;

	if (real_clock_gettime == NULL)
		open_clock();
	result = real_clock_gettime(clock, at);
	if (result != 0 || ahead == NULL || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
		return result;
	nanoseconds = at->tv_nsec + *ahead % MICROSECONDS * 1000;
	at->tv_sec += *ahead / MICROSECONDS + nanoseconds / (1000 * MICROSECONDS);
	at->tv_nsec = nanoseconds % (1000 * MICROSECONDS);
	if (at->tv_nsec < 0)
	{
		at->tv_nsec += 1000 * MICROSECONDS;
		at->tv_sec--;
	}
	return 0;
}

int
gettimeofday(struct timeval *restrict at, void *restrict zone)
{
	struct timespec now;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	at->tv_sec = now.tv_sec;
	at->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *at)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	if (at != NULL)
		*at = now.tv_sec;
	return now.tv_sec;
}
