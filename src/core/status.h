/*
 * status.h
 *	  How functions of core/ report that something went wrong.
 *
 * core/ knows no server, so it cannot raise an error: it returns a status and
 * writes one lower-case line, without a period, that the caller may show.
 */
#ifndef SBA_CORE_STATUS_H
#define SBA_CORE_STATUS_H

typedef enum SbaStatus
{
	SBA_OK = 0,
	SBA_OUT_OF_MEMORY,			/* malloc failed, or a stated limit was
								 * reached */
	SBA_INVALID_ARGUMENT,		/* the caller passed something not allowed */
	SBA_CORRUPT,				/* stored or received bytes are damaged */
	SBA_UNSUPPORTED_VERSION,	/* written by a newer version of this library */
	SBA_SYNTAX,					/* received text is not of the expected form */
	SBA_CANCELLED				/* a callback asked to stop */
} SbaStatus;

#define SBA_MESSAGE_SIZE 256

typedef struct SbaError
{
	SbaStatus	status;
	char		message[SBA_MESSAGE_SIZE];
} SbaError;

/*
 * Fill *error and return status, so that a function can end with
 * "return sba_fail(error, SBA_CORRUPT, "tree %u ...", tree)".
 * error may be NULL.
 */
extern SbaStatus sba_fail(SbaError *error, SbaStatus status,
						  const char *format,...)
			__attribute__((format(printf, 3, 4)));

#endif							/* SBA_CORE_STATUS_H */
