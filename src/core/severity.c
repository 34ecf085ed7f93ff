/*
 * severity.c
 *	  How bad an anomaly is, from its calibrated score.
 */
#include "core/severity.h"

SbaSeverity
sba_severity_of_score(double score)
{
	if (score < -0.6)
		return SBA_SEVERITY_CRITICAL;
	if (score < -0.3)
		return SBA_SEVERITY_HIGH;
	if (score < -0.1)
		return SBA_SEVERITY_MEDIUM;
	return SBA_SEVERITY_LOW;
}

const char *
sba_severity_name(SbaSeverity severity)
{
	static const char *const names[] = {"none", "low", "medium", "high", "critical"};

	return names[severity];
}
