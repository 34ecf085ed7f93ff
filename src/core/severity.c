/*
 * severity.c
 *	  How bad an anomaly is, from its calibrated score.
 */
#include "core/severity.h"

#include <string.h>

static const char *const severity_names[] = {"none", "low", "medium", "high", "critical"};

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
	return severity_names[severity];
}

bool
sba_severity_by_name(const char *name, SbaSeverity *severity)
{
	int			i;

	for (i = SBA_SEVERITY_NONE; i <= SBA_SEVERITY_CRITICAL; i++)
	{
		if (strcmp(severity_names[i], name) == 0)
		{
			*severity = (SbaSeverity) i;
			return true;
		}
	}
	return false;
}
