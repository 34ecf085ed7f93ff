-- The configuration parameters: what they are, and what they refuse.
LOAD 'smartbox_anomaly';

SELECT name, setting, unit, context
FROM pg_settings WHERE name LIKE 'smartbox\_anomaly.%' ORDER BY name;

-- where the server connects to
SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:8428';
SET smartbox_anomaly.vm_endpoint = '127.0.0.1:8428';
SET smartbox_anomaly.vm_endpoint = 'ftp://127.0.0.1';
SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1/?query=up';
SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1/ x';
SET smartbox_anomaly.vm_endpoint = 'http://reader:geheim@127.0.0.1';
SET smartbox_anomaly.vm_endpoint = 'https://geheim@127.0.0.1:8428/path';
SET smartbox_anomaly.vm_endpoint = 'reader:geheim@127.0.0.1:8428';
SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1/tenant@eu';
SET smartbox_anomaly.vm_proxy = 'http://reader:geheim@127.0.0.1';
SET smartbox_anomaly.vm_proxy = '127.0.0.1:3128';
SET smartbox_anomaly.vm_user = 'reader:geheim';
RESET smartbox_anomaly.vm_endpoint;

-- what goes into queries
SET smartbox_anomaly.service_label = 'job_name';
SET smartbox_anomaly.service_label = 'service-name';
SET smartbox_anomaly.service_label = '';
SET smartbox_anomaly.service_label = '1st';
SET smartbox_anomaly.rate_window = '90s';
SET smartbox_anomaly.rate_window = '5';
SET smartbox_anomaly.rate_window = '5m] or vector(1) #';
RESET smartbox_anomaly.service_label;
RESET smartbox_anomaly.rate_window;

-- times
SET smartbox_anomaly.time_zone = 'Europe/Paris';
SET smartbox_anomaly.time_zone = 'Mars/Olympus_Mons';
SET smartbox_anomaly.time_zone = '';
RESET smartbox_anomaly.time_zone;
SET smartbox_anomaly.vm_timeout = '2s';
SHOW smartbox_anomaly.vm_timeout;
-- the server's own words, which not all versions choose alike
\set VERBOSITY sqlstate
SET smartbox_anomaly.vm_timeout = '0';
\set VERBOSITY default
SET smartbox_anomaly.vm_max_retries = 11;
RESET smartbox_anomaly.vm_timeout;

-- a name that is not ours to take
SET smartbox_anomaly.no_such_setting = 1;

-- whoever sets the endpoint makes the server send requests there
CREATE ROLE regress_sba_reader;
SET ROLE regress_sba_reader;
SET smartbox_anomaly.vm_endpoint = 'http://127.0.0.1:8428';
SET smartbox_anomaly.environment = 'test';
SET smartbox_anomaly.time_zone = 'UTC';
SET smartbox_anomaly.vm_password_file = '/tmp/x';
\set VERBOSITY sqlstate
SHOW smartbox_anomaly.vm_endpoint;
SHOW smartbox_anomaly.vm_password_file;
\set VERBOSITY default
SELECT name FROM pg_settings WHERE name ~ '^smartbox_anomaly.vm_.*(file|user|proxy|endpoint)';
RESET ROLE;
DROP ROLE regress_sba_reader;
