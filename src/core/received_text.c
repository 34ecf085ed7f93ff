/*
 * received_text.c
 *	  Numbers and texts as they come over the network.
 */
#include "core/received_text.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NUMBER_LENGTH	1024

bool
sba_is_clean_text(const char *text, size_t length)
{
	static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
	size_t		i = 0;

	while (i < length)
	{
		unsigned char first = (unsigned char) text[i++];
		uint32_t	code;
		int			n_following;
		int			k;

		if (first == 0)
			return false;
		if (first < 0x80)
			continue;
		if (first >= 0xC0 && first < 0xE0)
			n_following = 1;
		else if (first >= 0xE0 && first < 0xF0)
			n_following = 2;
		else if (first >= 0xF0 && first < 0xF8)
			n_following = 3;
		else
			return false;
		code = first & (0x3F >> n_following);
		for (k = 0; k < n_following; k++)
		{
			if (i >= length || ((unsigned char) text[i] & 0xC0) != 0x80)
				return false;
			code = (code << 6) | ((unsigned char) text[i++] & 0x3F);
		}
		if (code < smallest[n_following] || code > 0x10FFFF ||
			(code >= 0xD800 && code <= 0xDFFF))
			return false;
	}
	return true;
}

static bool
is_word(const char *text, size_t length, const char *word)
{
	return length == strlen(word) && memcmp(text, word, length) == 0;
}

/*
 * The parts of a decimal number: digits * 10^exponent.  exact says that digits
 * holds the whole mantissa; false is returned for text of another form.
 */
static bool
scan_number(const char *text, size_t length, uint64_t *digits, int *exponent,
			bool *negative, bool *exact)
{
	const char *c = text;
	const char *end = text + length;
	bool		any = false;
	bool		after_point = false;
	int			written = 0;

	*digits = 0;
	*exponent = 0;
	*exact = true;
	*negative = c < end && *c == '-';
	if (c < end && (*c == '-' || *c == '+'))
		c++;
	for (; c < end && ((*c >= '0' && *c <= '9') || (*c == '.' && !after_point)); c++)
	{
		if (*c == '.')
		{
			after_point = true;
			continue;
		}
		any = true;
		if (*digits > (UINT64_MAX - 9) / 10)
			*exact = false;
		else
		{
			*digits = *digits * 10 + (uint64_t) (*c - '0');
			*exponent -= after_point;
		}
	}
	if (!any)
		return false;
	if (c < end && (*c == 'e' || *c == 'E'))
	{
		bool		minus = ++c < end && *c == '-';

		if (c < end && (*c == '-' || *c == '+'))
			c++;
		if (c == end)
			return false;
		for (; c < end && *c >= '0' && *c <= '9'; c++)
		{
			if (written < 100000)
				written = written * 10 + (*c - '0');
		}
		*exponent += minus ? -written : written;
	}
	return c == end;
}

bool
sba_parse_number(const char *text, size_t length, double *value)
{
	static const double power_of_ten[] = {
		1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
	};
	char		copy[MAX_NUMBER_LENGTH + 1];
	uint64_t	digits;
	int			exponent;
	bool		negative;
	bool		exact;

	if (length > MAX_NUMBER_LENGTH)
		return false;
	if (!scan_number(text, length, &digits, &exponent, &negative, &exact))
	{
		if (is_word(text, length, "NaN"))
			*value = NAN;
		else if (is_word(text, length, "Inf") || is_word(text, length, "+Inf"))
			*value = INFINITY;
		else if (is_word(text, length, "-Inf"))
			*value = -INFINITY;
		else
			return false;
		return true;
	}

	/*
	 * Two numbers that doubles hold exactly: one correctly rounded operation
	 * gives the correctly rounded result, several times faster than strtod.
	 */
	if (FLT_EVAL_METHOD == 0 && exact && digits <= ((uint64_t) 1 << 53) &&
		exponent >= -22 && exponent <= 22)
	{
		double		magnitude = (double) digits;

		if (exponent < 0)
			magnitude /= power_of_ten[-exponent];
		else
			magnitude *= power_of_ten[exponent];
		*value = negative ? -magnitude : magnitude;
		return true;
	}
	memcpy(copy, text, length);
	copy[length] = '\0';
	*value = strtod(copy, NULL);
	return true;
}
