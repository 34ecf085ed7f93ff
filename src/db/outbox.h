/*
 * outbox.h
 *	  smartbox.receivers and smartbox.deliveries: who is sent what now, and what
 *	  became of it.  sql/55-delivery.sql decides; see there for the states.
 *
 * All functions run inside SPI_connect; what they return is in the calling
 * memory context.
 */
#ifndef SBA_DB_OUTBOX_H
#define SBA_DB_OUTBOX_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A row of smartbox.receivers; NULL where there is nothing. */
typedef struct SbaReceiver
{
	const char *name;
	const char *url;			/* without a slash at the end */
	const char *bearer_token_file;
	const char *user;
	const char *password_file;
	const char *ca_file;
	const char *certificate_file;
	const char *key_file;
} SbaReceiver;

/* A message that was claimed. */
typedef struct SbaClaimed
{
	const char *service;
	const char *incident_id;
	int			alert_number;
	TimestampTz leased_until;	/* 0: it is only repeated, with no record */
	const char *idempotency_key;
	const char *path;
	const char *body;
} SbaClaimed;

/* Why nothing is sent from this database; NULL: it is. */
extern const char *sba_delivery_obstacle(void);

/* Give up what is too old, and list the enabled receivers (of SbaReceiver). */
extern List *sba_open_outbox(void);

/* Claim up to most messages for a receiver; a list of SbaClaimed. */
extern List *sba_claim_deliveries(const char *receiver, int most);
extern List *sba_claim_resends(const char *receiver, int most);

/* Record what became of one: "sent", "retry" or "dead". */
extern void sba_record_delivery(const SbaClaimed *claimed, const char *receiver,
								const char *outcome, const char *error, double wait_s);

#endif							/* SBA_DB_OUTBOX_H */
