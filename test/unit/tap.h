/*
 * tap.h
 *	  What the unit tests need to say their outcome as TAP.
 *
 *	plan_tests(n);				n, or 0 when the number is not known before
 *	ok(condition, format, ...);
 *	is_uint(got, expected, format, ...);
 *	is_double(got, expected, tolerance, format, ...);
 *	return done();				1 when something failed
 */
#ifndef SBA_TEST_TAP_H
#define SBA_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

static int	tap_planned = 0;
static int	tap_run = 0;
static int	tap_failed = 0;

static inline void
plan_tests(int n)
{
	tap_planned = n;
	if (n > 0)
		printf("1..%d\n", n);
}

static inline bool
__attribute__((format(printf, 4, 5)))
tap_result(bool passed, const char *file, int line, const char *format,...)
{
	va_list		arguments;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_run);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	if (!passed)
	{
		tap_failed++;
		fprintf(stderr, "#   failed at %s:%d\n", file, line);
	}
	fflush(stdout);
	return passed;
}

#define ok(condition, ...) tap_result((condition), __FILE__, __LINE__, __VA_ARGS__)

#define is_uint(got, expected, ...) \
	do { \
		uint64_t	tap_got = (uint64_t) (got); \
		uint64_t	tap_expected = (uint64_t) (expected); \
		if (!ok(tap_got == tap_expected, __VA_ARGS__)) \
			fprintf(stderr, "#   got %llu (0x%llx), not %llu (0x%llx)\n", \
					(unsigned long long) tap_got, (unsigned long long) tap_got, \
					(unsigned long long) tap_expected, (unsigned long long) tap_expected); \
	} while (0)

/* A NaN is near nothing. */
#define is_double(got, expected, tolerance, ...) \
	do { \
		double		tap_got = (got); \
		double		tap_expected = (expected); \
		double		tap_apart = tap_got > tap_expected ? tap_got - tap_expected : tap_expected - tap_got; \
		if (!ok(tap_got == tap_expected || tap_apart <= (tolerance), __VA_ARGS__)) \
			fprintf(stderr, "#   got %.17g, not %.17g +- %g\n", \
					tap_got, tap_expected, (double) (tolerance)); \
	} while (0)

static inline int
done(void)
{
	if (tap_planned == 0)
		printf("1..%d\n", tap_run);
	return tap_failed > 0 || (tap_planned > 0 && tap_planned != tap_run);
}

#endif							/* SBA_TEST_TAP_H */
