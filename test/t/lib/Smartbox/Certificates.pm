# A certificate authority for a test, with certificates of all kinds.
#
#   my $certificates = Smartbox::Certificates->new("$ENV{SMARTBOX_WORK}/tls");
#   my $server = $certificates->issue('server', san => 'IP:127.0.0.1');
#   ... $server->{certificate}, $server->{key}, $certificates->authority ...
package Smartbox::Certificates;

use strict;
use warnings;

sub new
{
	my ($class, $folder) = @_;
	my $self = bless { folder => $folder }, $class;

	mkdir $folder or die "$folder: $!";
	$self->write_file('index', '');
	$self->write_file('serial', "01\n");
	$self->write_file('ca.conf', <<"END");
[ca]
default_ca = test
[test]
database = $folder/index
serial = $folder/serial
new_certs_dir = $folder
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
END
	$self->openssl('req', '-x509', $self->new_key('authority'), '-days', '30', '-subj', '/CN=Smartbox test authority');
	return $self;
}

sub authority { return "$_[0]{folder}/authority.crt" }

# A certificate that the authority has signed.
sub issue
{
	my ($self, $name, %options) = @_;
	my @dates = $options{expired} ? ('-startdate', '20200101000000Z', '-enddate', '20200201000000Z') : ('-days', '30');

	$self->openssl('req', '-new', $self->new_key($name, 'csr'), '-subj', "/CN=$name", '-addext', "subjectAltName = $options{san}");
	$self->openssl('ca', '-batch', '-notext', '-config', "$self->{folder}/ca.conf", '-cert', $self->authority,
		'-keyfile', "$self->{folder}/authority.key", '-in', "$self->{folder}/$name.csr", '-out', "$self->{folder}/$name.crt", @dates);
	return { certificate => "$self->{folder}/$name.crt", key => "$self->{folder}/$name.key" };
}

# One that nobody else has signed.
sub self_signed
{
	my ($self, $name, %options) = @_;

	$self->openssl('req', '-x509', $self->new_key($name), '-days', '30', '-subj', "/CN=$name", '-addext', "subjectAltName = $options{san}");
	return { certificate => "$self->{folder}/$name.crt", key => "$self->{folder}/$name.key" };
}

sub new_key
{
	my ($self, $name, $kind) = @_;
	return ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
		'-keyout', "$self->{folder}/$name.key", '-out', "$self->{folder}/$name." . ($kind || 'crt'));
}

sub openssl
{
	my ($self, @arguments) = @_;

	open my $output, '-|', 'sh', '-c', 'exec openssl "$@" 2>&1', '-', @arguments or die "openssl: $!";
	my $said = join '', <$output>;
	close $output or die "openssl @arguments:\n$said";
	return;
}

sub write_file
{
	my ($self, $name, $text) = @_;

	open my $file, '>', "$self->{folder}/$name" or die "$name: $!";
	print $file $text;
	close $file;
	return;
}

1;
