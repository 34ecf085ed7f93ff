/*
 * status.c
 *	  How functions of core/ report that something went wrong.
 */
#include "core/status.h"

#include <stdarg.h>
#include <stdio.h>

SbaStatus
sba_fail(SbaError *error, SbaStatus status, const char *format,...)
{
	if (error != NULL)
	{
		va_list		arguments;

		error->status = status;
		va_start(arguments, format);
		vsnprintf(error->message, sizeof(error->message), format, arguments);
		va_end(arguments);
	}
	return status;
}
