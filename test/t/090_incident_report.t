# incident_report() in a browser: nothing but the page is fetched, nothing is
# complained of, hostile names are text, light and dark can be read, and so can
# a narrow screen.  And docs/incident-report.md: what it shows runs as it stands.
use strict;
use warnings;
use File::Temp qw(tempdir);
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $node = Smartbox::Cluster->launch('incident_report', 'autovacuum = off');
my $web = Smartbox::FakeHttpServer->start;

# Names and texts of people who mean no good, in every place that has some.
my $hostile = q{<script>document.title='pwned'</script>"onload="document.title='pwned'</svg></style><img src=x onerror=alert(1)>};
$node->safe_psql('shop', q{
	INSERT INTO smartbox.services (service, time_zone) VALUES ('booking', 'UTC'), ('search', 'UTC'), ($hostile$} . $hostile . q{$hostile$, 'UTC'),
		(U&'tfos\202Emoc.niam\202C', 'UTC'), (repeat('long', 50), 'UTC');
	INSERT INTO smartbox.samples (service, ts, metric_values)
	SELECT s.service, t, ARRAY[50 + 10 * sin(extract(epoch FROM t) / 13750),
			100 + 3 * sin(extract(epoch FROM t) / 700) + CASE WHEN s.service <> 'search' AND t > '2024-01-15 11:30+00' THEN 800 ELSE 0 END,
			20 + sin(extract(epoch FROM t) / 800), 8 + 0.3 * sin(extract(epoch FROM t) / 900), 0.002]
	FROM smartbox.services AS s, generate_series('2024-01-05 00:00+00'::timestamptz, '2024-01-15 12:00+00', '5 min') AS t
	WHERE NOT (s.service = 'search' AND t > '2024-01-15 02:00+00' AND t <= '2024-01-15 04:00+00');
	SELECT count(*) FROM train_models();
	INSERT INTO smartbox.dependencies (service, depends_on) SELECT service, 'booking' FROM smartbox.services WHERE service LIKE '<%';
	SELECT count(detect_anomalies(s.service, t)) FROM generate_series('2024-01-15 11:00+00'::timestamptz, '2024-01-15 12:00+00', '5 min') AS t, smartbox.services AS s;
	SELECT acknowledge_incident(incident_id, $hostile$} . $hostile . q{$hostile$) FROM smartbox.active_incidents WHERE service LIKE '<%'});
my $incident = $node->safe_psql('shop', q{SELECT incident_id FROM smartbox.active_incidents WHERE service LIKE '<%'});
my %page = (
	fleet => 'SELECT incident_report()',
	service => q{SELECT incident_report('search')},
	incident => "SELECT incident_report(incident_id => '$incident')");
$web->answer($_, body => $node->safe_psql('shop', $page{$_}), headers => ['Content-Type: text/html']) foreach sort keys %page;

# Looks at a page in a frame as wide as a small phone.  Colours are compared as
# WCAG does; 4.5 is what it asks of text.
$web->answer('frame', headers => ['Content-Type: text/html'], body => <<'HTML');
<!DOCTYPE html><title>frame</title><link rel="icon" href="data:,"><body><script>
const found = {};
function luminance(c) {
	const [r, g, b] = c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function parts(colour) { return colour.match(/[\d.]+/g).map(Number); }
function background(view, e) {
	for (; e; e = e.parentElement) {
		const c = parts(view.getComputedStyle(e).backgroundColor);
		if (c.length < 4 || c[3] > 0) return c.slice(0, 3);
	}
	return [255, 255, 255];
}
function look(view) {
	const page = view.document, all = [...page.querySelectorAll('body *')];
	const count = s => page.querySelectorAll(s).length;
	const ids = all.map(e => e.id).filter(Boolean);
	const ends = new Set(ids);
	let worst = [99, ''];
	for (const e of all) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('svg')) continue;
		const [a, b] = [luminance(parts(view.getComputedStyle(e).color).slice(0, 3)), luminance(background(view, e))].sort((x, y) => y - x);
		const contrast = (a + 0.05) / (b + 0.05);
		if (contrast < worst[0]) worst = [contrast, e.outerHTML.slice(0, 80)];
	}
	return {
		width: page.documentElement.scrollWidth, columns: view.innerWidth, dark: view.matchMedia('(prefers-color-scheme: dark)').matches,
		background: view.getComputedStyle(page.body).backgroundColor, contrast: worst[0], contrast_of: worst[1],
		scripts: count('script'), images: count('img'), handlers: all.filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length,
		title: page.title, text: page.body.textContent, language: page.documentElement.lang,
		landmarks: ['header', 'main', 'footer'].map(count), h1: count('h1'),
		headings: [...page.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1]),
		charts: count('.plot svg[role=img] title'), lines: count('svg.spark[role=img] title'), nameless: count('svg:not([role=img])'),
		heads: count('th:not([scope])'), twice: ids.length - ends.size,
		lost: [...page.querySelectorAll('a[href]')].map(a => a.getAttribute('href')).filter(h => !h.startsWith('#') || !ends.has(h.slice(1))),
		unlabelled: [...page.querySelectorAll('[aria-labelledby]')].filter(e => e.getAttribute('aria-labelledby').split(' ').some(i => !ends.has(i))).length,
		unreachable: [...page.querySelectorAll('.scroll')].filter(e => e.tabIndex < 0 && !e.closest('details')).length,
	};
}
function framed(name) {
	return new Promise(done => {
		const frame = document.createElement('iframe');
		frame.style = 'width: 360px; height: 2000px; border: 0';
		frame.onload = () => { found[name] = look(frame.contentWindow); frame.remove(); done(); };
		frame.src = '/' + name;
		document.body.append(frame);
	});
}
addEventListener('load', async () => {
	for (const name of ['fleet', 'service', 'incident']) await framed(name);
	const result = document.createElement('pre');
	result.id = 'result';
	result.textContent = encodeURIComponent(JSON.stringify(found));
	document.body.append(result);
});
</script>
HTML

# A page as the browser has it after a while of its own time, and what it
# complained of.  Every name but this machine is unknown to it.
sub browse
{
	my ($url, @flags) = @_;
	my $profile = tempdir('chromium.XXXXXX', DIR => $ENV{SMARTBOX_WORK}, CLEANUP => 1);
	my @command = ('timeout', '120', 'chromium', qw(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage
		  --disable-background-networking --disable-component-update --disable-sync --disable-extensions --enable-logging=stderr),
		'--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1', "--user-data-dir=$profile", '--virtual-time-budget=10000', @flags, $url);
	local $ENV{HOME} = $profile;
	my $status = PostgreSQL::Test::Utils::run_log([@command, '--dump-dom'], '>', \my $page, '2>', \my $log);
	die "the browser shows nothing: $log" unless $status && $page ne '';
	return ($page, join "\n", grep { /CONSOLE/ } split /\n/, $log);
}

sub look
{
	my (@flags) = @_;
	my ($page, $complaints) = browse($web->url('frame'), @flags);
	is($complaints, '', 'nothing is complained of');
	my ($result) = $page =~ m{<pre id="result">([^<]+)</pre>} or die "the browser shows: $page";
	return decode_json($result =~ s/%([0-9A-F]{2})/chr hex $1/ger);
}

foreach my $scheme ([ 'light', 1 ], [ 'dark', 0 ])
{
	my ($name, $setting) = @$scheme;
	my $seen = look("--blink-settings=preferredColorScheme=$setting");

	foreach my $kind (sort keys %page)
	{
		my $found = $seen->{$kind};

		is(!!$found->{dark}, $name eq 'dark', "$kind, $name: the scheme is asked for");
		cmp_ok($found->{contrast}, '>=', 4.5, "$kind, $name: every text can be read") or diag($found->{contrast_of});
		is($found->{columns}, 360, "$kind, $name: seen on a narrow screen");
		cmp_ok($found->{width}, '<=', 360, "$kind, $name: which it fits");
	}
	isnt($seen->{fleet}{background}, 'rgb(255, 255, 255)', 'the page has a colour of its own');
	next if $name eq 'dark';

	foreach my $kind (sort keys %page)
	{
		my $found = $seen->{$kind};

		is("$found->{scripts} $found->{images} $found->{handlers}", '0 0 0', "$kind: no script, no image, no handler");
		is_deeply($found->{landmarks}, [ 1, 1, 1 ], "$kind: header, main and footer");
		is($found->{h1}, 1, "$kind: one heading above all");
		is_deeply([ grep { $found->{headings}[$_] > $found->{headings}[ $_ - 1 ] + 1 } 1 .. $#{ $found->{headings} } ], [],
			"$kind: no level of headings is left out");
		is($found->{language}, 'en', "$kind: says its language");
		is("$found->{nameless} $found->{heads} $found->{twice} $found->{unlabelled} $found->{unreachable}", '0 0 0 0 0',
			"$kind: pictures have roles, heads of tables scopes, identities are unique, labels exist, the keyboard reaches what scrolls");
		is_deeply($found->{lost}, [], "$kind: every link leads somewhere on the page");
		unlike($found->{title}, qr/\Apwned/, "$kind: no foreign code has run");
	}
	like($seen->{fleet}{text}, qr/\Q$hostile\E/, 'a hostile name is shown as it is');
	like($seen->{incident}{title}, qr/\Q$hostile\E/, 'in the title too');
	like($seen->{incident}{text}, qr/note: \Q$hostile\E/, 'and a hostile note');
	like($seen->{fleet}{text}, qr/tfos\x{FFFD}moc\.niam\x{FFFD}/, 'what would turn the text around is replaced');
	is($seen->{service}{charts}, 5, 'the page of a service has a chart for each metric');
	cmp_ok($seen->{fleet}{charts}, '>=', 4, 'the page of all has charts of the incidents');
	is($seen->{fleet}{lines}, 25, 'and a line for each service and metric');
}

# Opened by itself: nothing is asked for but the page.
my @before = $web->requests;
my ($page, $complaints) = browse($web->url('fleet'));
is($complaints, '', 'by itself nothing is complained of');
like($page, qr{<h1>Incidents</h1>}, 'the browser has it');
my @requests = $web->requests;
is_deeply([ map { $_->{name} } @requests[ @before .. $#requests ] ], ['fleet'], 'and asked for nothing else');

# All this can fail: what is put into the page is kept from running, and said.
my $spoilt = $node->safe_psql('shop', $page{service}) =~ s{</main>}{<script>document.title = 'pwned'</script><img src="http://example.com/x.png"></main>}r;
$web->answer('spoilt', body => $spoilt, headers => ['Content-Type: text/html']);
($page, $complaints) = browse($web->url('spoilt'));
like($complaints, qr/Content Security Policy/, 'a script in the page would not run, and be heard of');
unlike($page, qr{<title>pwned}, 'it did not');

# The page about the page, in a folder of its own.
open my $file, '<:encoding(UTF-8)', 'docs/incident-report.md' or die "docs/incident-report.md: $!";
my $text = do { local $/; <$file> };
close $file;
my $folder = tempdir('page.XXXXXX', DIR => $ENV{SMARTBOX_WORK}, CLEANUP => 1);
my @blocks = $text =~ /^```(sh|sql)\n(.*?)^```$/msg;
cmp_ok(scalar @blocks, '==', 14, 'the page has seven blocks');
local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'shop');
my $answer;
while (my ($kind, $block) = splice @blocks, 0, 2)
{
	my $what = (split /\n/, $block)[0];

	if ($kind eq 'sh')
	{
		is(system('sh', '-e', '-c', 'cd "$1" && eval "$2"', 'sh', $folder, $block), 0, "runs: $what");
		is(`tail -c 16 $folder/incidents.html`, "</body></html>\n\n", 'the file is the whole page');
		like(`head -c 15 $folder/incidents.html`, qr/\A<!DOCTYPE html>/, 'and nothing else');
		next;
	}
	my ($rows, $problem) = ('', '');
	is($node->psql('shop', $block, stdout => \$rows, stderr => \$problem, on_error_stop => 1), 0, "runs: $what") or diag($problem);
	$answer = $rows if $block =~ /service_sparkline\(service/;
}
ok(-s 'docs/images/incident-report.png' <= 200_000, 'the picture is there and small');
utf8::decode($answer);
my ($shown) = $text =~ /^```text\n.*?\n-.*?\n(.*?)^```$/ms;
is_deeply([ grep { !/\|[\x{2581}-\x{2588} ]{48}\z/ } split /\n/, $answer ], [], 'a day of each service is a line of 48 blocks');
is_deeply([ grep { !/\| [\x{2581}-\x{2588} ]{48}\z/ } split /\n/, $shown ], [], 'as on the page');

done_testing();
