/*
 * write_back.h
 *	  smartbox.write_backs: which scores are to be written as series, and what
 *	  became of them.  sql/77-write-back.sql decides.
 *
 * Both functions run inside SPI_connect; what they return is in the calling
 * memory context.
 */
#ifndef SBA_DB_WRITE_BACK_H
#define SBA_DB_WRITE_BACK_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

/* What was claimed of one service. */
typedef struct SbaWriteBack
{
	const char *service;
	TimestampTz written_until;
	TimestampTz leased_until;
	int64		n_points;
} SbaWriteBack;

/*
 * Claim up to most services for so long; returns a list of SbaWriteBack, and
 * appends the lines to be sent.
 */
extern List *sba_claim_write_backs(int most, int64 lease_ms, StringInfo lines);

/* Record that all were taken, or why they were not. */
extern void sba_record_write_backs(List *claimed, const char *error);

#endif							/* SBA_DB_WRITE_BACK_H */
