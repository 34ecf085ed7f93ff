/*
 * severity.h
 *	  How bad an anomaly is, from its calibrated score.
 */
#ifndef SBA_CORE_SEVERITY_H
#define SBA_CORE_SEVERITY_H

#include <stdbool.h>

/* In the order of smartbox.severity. */
typedef enum SbaSeverity
{
	SBA_SEVERITY_NONE = 0,
	SBA_SEVERITY_LOW,
	SBA_SEVERITY_MEDIUM,
	SBA_SEVERITY_HIGH,
	SBA_SEVERITY_CRITICAL
} SbaSeverity;

/*
 * Severity of an anomaly with this score: below -0.6 critical, below -0.3
 * high, below -0.1 medium, else low.
 */
extern SbaSeverity sba_severity_of_score(double score);

/* Its name in smartbox.severity. */
extern const char *sba_severity_name(SbaSeverity severity);

/* The severity of that name; false when there is none. */
extern bool sba_severity_by_name(const char *name, SbaSeverity *severity);

#endif							/* SBA_CORE_SEVERITY_H */
