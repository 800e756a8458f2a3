//! How a program gets to a store: with whose credentials, and whose certificates it believes.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use seawall_tests::harness::{
    aws::Aws,
    azurite::Azurite,
    binary::binary,
    ceph::Ceph,
    ctl::{Output, run_command},
    objects::Bucket,
    scratch::Scratch,
    tls_front::TlsFront,
};
use tokio::net::TcpListener;

const LIMIT: Duration = Duration::from_secs(120);
/// What may be in the environment of whoever runs the tests.
const OUTSIDE: [&str; 7] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_CA_BUNDLE",
];

async fn run(bucket: &Bucket, home: &Path, program: &str, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary(program)?);
    for name in OUTSIDE {
        command.env_remove(name);
    }
    command.env("HOME", home);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    bucket.tell(&mut command);
    command.args(args);
    run_command(command, LIMIT).await
}

async fn list(bucket: &Bucket, home: &Path) -> Result<Output> {
    run(bucket, home, "seawallctl", &["repository", "list"]).await
}

/// It ends with one line, and has not tried again and again what will be the same the next time.
async fn refused_at_once(bucket: &Bucket, home: &Path, words: &[&str]) -> Result<String> {
    ended_at_once(1, bucket, home, words).await
}

/// The same of what stands in the settings or the environment.
async fn unusable(bucket: &Bucket, home: &Path, words: &[&str]) -> Result<String> {
    ended_at_once(2, bucket, home, words).await
}

/// It ends with one line after it has been tried again.
async fn refused_later(bucket: Bucket, home: &Path, words: &[&str]) -> Result<String> {
    let bucket = bucket.set("repository.retry_limit", "1s");
    list(&bucket, home).await?.refused(1, words)
}

async fn ended_at_once(code: i32, bucket: &Bucket, home: &Path, words: &[&str]) -> Result<String> {
    let began = Instant::now();
    let line = list(bucket, home).await?.refused(code, words)?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(15), "after {took:?}: {line}");
    ensure!(!line.contains("given up"), "tried again: {line}");
    Ok(line)
}

/// Writes the files of a home directory's `.aws`.
fn profiles(home: &Path, credentials: &str, config: &str) -> Result<()> {
    let directory = home.join(".aws");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("credentials"), credentials)?;
    Ok(fs::write(directory.join("config"), config)?)
}

/// Who signs requests of a program with this environment, and for which region.
async fn signer(stub: &Aws, home: &Path, environment: &[(&str, &str)]) -> Result<String> {
    signer_of(stub, &stub.bucket(environment), home).await
}

async fn signer_of(stub: &Aws, bucket: &Bucket, home: &Path) -> Result<String> {
    let output = list(bucket, home).await?;
    ensure!(output.code == 1, "{output}");
    ensure!(!output.stderr.contains("geheim"), "{output}");
    let last = stub.signed().await;
    last.with_context(|| format!("nothing was signed: {output}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_is_spoken_to_with_the_credentials_that_the_aws_cli_would_take() -> Result<()> {
    let mut scratch = Scratch::create("aws-credentials")?;
    let home = scratch.path();
    let stub = Aws::start().await?;
    let helper = home.join("a helper");
    fs::write(
        &helper,
        r#"{"Version":1,"AccessKeyId":"PROCESS","SecretAccessKey":"geheim","Expiration":"2099-01-01T00:00:00Z"}"#,
    )?;
    let token = home.join("token");
    fs::write(&token, "a.b.c")?;
    let (arn, token) = (
        "arn:aws:iam::123456789012:role/r",
        token.display().to_string(),
    );
    let keys = "aws_secret_access_key = geheim\naws_access_key_id";
    profiles(
        home,
        &format!("[default]\n{keys} = DEFAULT\n[backup]\n{keys} = BACKUP\n"),
        &format!(
            "[default]\nregion = eu-default\n[profile backup]\nregion = eu-backup\n\
             [profile config]\n{keys} = CONFIG\n\
             [profile role]\nrole_arn = {arn}\nsource_profile = backup\n\
             [profile process]\ncredential_process = cat \"{}\"\n[profile empty]\nregion = x\n",
            helper.display()
        ),
    )?;
    let env = [
        ("AWS_ACCESS_KEY_ID", "ENV"),
        ("AWS_SECRET_ACCESS_KEY", "geheim"),
    ];
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", arn),
    ];
    let container = format!("{}/container", stub.address);
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())];
    let instance = [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", stub.address.as_str()),
    ];
    let sts = [("AWS_ENDPOINT_URL_STS", stub.address.as_str())];
    let by_proxy = [
        ("AWS_ENDPOINT_URL_STS", "http://sts.invalid"),
        ("HTTP_PROXY", stub.address.as_str()),
    ];
    let profile = |name: &'static str| [("AWS_PROFILE", name)];
    for (environment, expected) in [
        (vec![], "DEFAULT eu-default"),
        (profile("backup").to_vec(), "BACKUP eu-backup"),
        (profile("config").to_vec(), "CONFIG us-east-1"),
        (profile("process").to_vec(), "PROCESS us-east-1"),
        ([&profile("role")[..], &sts].concat(), "ROLE us-east-1"),
        ([&profile("role")[..], &by_proxy].concat(), "ROLE us-east-1"),
        ([&profile("backup")[..], &env].concat(), "ENV eu-backup"),
        ([&web[..], &sts].concat(), "WEB eu-default"),
        (
            [&web[..], &sts, &profile("role")].concat(),
            "ROLE us-east-1",
        ),
        ([&web[..], &sts, &env].concat(), "ENV eu-default"),
        (
            [&container[..], &profile("backup")].concat(),
            "BACKUP eu-backup",
        ),
        (
            [&container[..], &profile("empty"), &instance].concat(),
            "CONTAINER x",
        ),
        ([&profile("empty")[..], &instance].concat(), "INSTANCE x"),
    ] {
        let signer = signer(&stub, home, &environment).await;
        let signer = signer.with_context(|| format!("{environment:?}"))?;
        ensure!(
            signer == expected,
            "{environment:?}: {signer}, not {expected}"
        );
    }
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credentials_nothing_is_sent_and_one_line_says_soon_what_was_looked_for()
-> Result<()> {
    let mut scratch = Scratch::create("no-credentials")?;
    let home = scratch.path();
    let stub = Aws::start().await?;
    let arn = "arn:aws:iam::123456789012:role/r";
    let process = |name: &str, expires: &str| {
        format!(
            "[profile {name}]\ncredential_process = echo '{{\"Version\":1,\"AccessKeyId\":\"OLD\",\
             \"SecretAccessKey\":\"geheim\",\"Expiration\":\"{expires}\"}}'\n"
        )
    };
    let expired = process("expired", "2001-01-01T00:00:00Z");
    profiles(
        home,
        "[keys]\naws_access_key_id = KEYS\naws_secret_access_key = geheim\n",
        &format!(
            "[profile empty]\nregion = x\n{expired}\
             [profile failing]\ncredential_process = echo no >&2; exit 3\n\
             [profile chatty]\ncredential_process = (yes stack | head -c 20000; echo key error) >&2; exit 3\n\
             [profile instance]\nrole_arn = {arn}\ncredential_source = Ec2InstanceMetadata\n\
             [profile role]\nrole_arn = {arn}\nsource_profile = keys\n"
        ),
    )?;
    let aws = home.join(".aws").display().to_string();
    let profile = |name: &'static str| ("AWS_PROFILE", name);
    let none = [
        "no credentials for S3",
        "AWS_ACCESS_KEY_ID",
        &aws,
        "docs/storage.md",
    ];

    let empty = stub.bucket(&[profile("empty")]);
    refused_at_once(&empty, home, &[&none[..], &["\"empty\""]].concat()).await?;
    let metadata = |address: &str| {
        stub.bucket(&[
            ("AWS_EC2_METADATA_DISABLED", "false"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", address),
        ])
    };
    let at = |path: &str| format!("{}/{path}", stub.address);
    // It is not there at all, does not want to, has none.
    for address in ["http://127.0.0.1:1", &at("forbidden"), &at("gone")] {
        refused_at_once(&metadata(address), home, &none).await?;
    }
    // It takes the connection and never says a word; is busy; there is no route to it.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent = format!("http://{}", silent.local_addr()?);
    for address in [&silent, &at("busy"), "http://255.255.255.255"] {
        let words = [&none[..], &["given up after 1s"]].concat();
        refused_later(metadata(address), home, &words).await?;
    }
    let own = metadata(&at("busy")).environment("AWS_PROFILE", "instance");
    let words = ["cannot get credentials for S3", "given up after 1s"];
    refused_later(own, home, &words).await?;

    let unknown = stub.bucket(&[profile("bakcup")]);
    unusable(&unknown, home, &["bakcup", &aws]).await?;
    let half = stub.bucket(&[profile("keys"), ("AWS_ACCESS_KEY_ID", "ENV")]);
    unusable(&half, home, &["only one of AWS_ACCESS_KEY_ID"]).await?;
    let expired = stub.bucket(&[profile("expired")]);
    refused_at_once(&expired, home, &["have expired"]).await?;
    let failing = stub.bucket(&[profile("failing")]);
    refused_at_once(&failing, home, &["cannot get credentials for S3", "no"]).await?;

    let chatty = stub.bucket(&[profile("chatty")]);
    let line = refused_at_once(&chatty, home, &["status: 3", "stack", "key error"]).await?;
    ensure!(line.len() < 800, "{} bytes: {line}", line.len());

    // This may be better in a moment, as with a store that does not answer.
    for sts in ["http://127.0.0.1:1", &at("busy"), &at("throttled"), &silent] {
        let bucket = stub.bucket(&[("AWS_ENDPOINT_URL_STS", sts), profile("role")]);
        refused_later(bucket, home, &words).await?;
    }
    let no_role = stub.bucket(&[("AWS_ENDPOINT_URL_STS", &at("forbidden")), profile("role")]);
    refused_at_once(&no_role, home, &words[..1]).await?;
    ensure!(stub.signed().await.is_none(), "something was signed");
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_for_credentials_is_started_once_however_long_it_takes() -> Result<()> {
    let mut scratch = Scratch::create("slow-credentials")?;
    let home = scratch.path();
    let stub = Aws::start().await?;
    let file = |name: &str| home.join(name).display().to_string();
    fs::write(
        file("given"),
        r#"{"Version":1,"AccessKeyId":"PROCESS","SecretAccessKey":"geheim"}"#,
    )?;
    let process = |name: &str, then: &str| {
        let started = file(name);
        format!("[profile {name}]\ncredential_process = echo $$ >> \"{started}\"; {then}\n")
    };
    let slow = format!("sleep 3; cat \"{}\"", file("given"));
    let config = process("slow", &slow) + &process("hanging", "exec sleep 100");
    profiles(home, "", &config)?;
    let started = |name: &str| -> Result<Vec<i32>> {
        let pids = fs::read_to_string(file(name))?;
        Ok(pids.lines().map(str::parse).collect::<Result<_, _>>()?)
    };
    let of = |name: &str| {
        stub.bucket(&[("AWS_PROFILE", name)])
            .set("repository.request_timeout", "1s")
            .set("repository.retry_limit", "8s")
    };

    let signer = signer_of(&stub, &of("slow"), home).await?;
    ensure!(signer == "PROCESS us-east-1", "{signer}");
    ensure!(started("slow")?.len() == 1, "{:?}", started("slow")?);

    let words = ["asked for", "credential_process", "given up after 8s"];
    list(&of("hanging"), home).await?.refused(1, &words)?;
    let pids = started("hanging")?;
    for pid in &pids {
        kill(Pid::from_raw(*pid), Signal::SIGKILL)?;
    }
    ensure!(pids.len() == 1, "{pids:?}");
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_a_role_is_believed_by_the_same_authorities_as_the_store() -> Result<()> {
    let mut scratch = Scratch::create("sts-tls")?;
    let home = scratch.path();
    let stub = Aws::start().await?;
    profiles(
        home,
        "[default]\naws_access_key_id = KEYS\naws_secret_access_key = geheim\n",
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = default\n",
    )?;
    let target = stub.address.trim_start_matches("http://");
    let front = TlsFront::start(target, home, &["127.0.0.1"]).await?;
    let sts = front.url();
    let bucket = stub.bucket(&[("AWS_PROFILE", "role"), ("AWS_ENDPOINT_URL_STS", &sts)]);
    refused_at_once(&bucket, home, &["UnknownIssuer"]).await?;
    let trusting = bucket.set("repository.ca_file", front.authority());
    let signer = signer_of(&stub, &trusting, home).await?;
    ensure!(signer == "ROLE us-east-1", "{signer}");
    scratch.discard();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cephs_gateway_is_reached_with_a_profile_alone_and_by_tls_with_an_own_authority()
-> Result<()> {
    let mut scratch = Scratch::create("ceph-access")?;
    let Some(ceph) = Ceph::start(&scratch).await? else {
        scratch.discard();
        return Ok(());
    };
    let home = scratch.path();
    let mut bucket = ceph.bucket("access", false).await?;
    let key = |name: &str| {
        let found = bucket.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone()).context("no such key")
    };
    let (id, secret) = (key("AWS_ACCESS_KEY_ID")?, key("AWS_SECRET_ACCESS_KEY")?);
    let write = |secret: &str| {
        let keys =
            format!("[backup]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
        profiles(home, &keys, "[profile backup]\nregion = us-east-1\n")
    };
    write(&secret)?;
    bucket.environment = vec![("AWS_PROFILE".to_owned(), "backup".to_owned())];
    run(&bucket, home, "conformance", &[]).await?.done()?;
    write("geheim-und-falsch")?;
    let line = list(&bucket, home).await?.refused(1, &["credentials"])?;
    ensure!(!line.contains("geheim"), "{line}");
    write(&secret)?;

    let own = TlsFront::start(&ceph.address(), home, &["127.0.0.1", "localhost"]).await?;
    let behind = bucket.clone().set("repository.endpoint", own.url());
    let trusting = behind.clone().set("repository.ca_file", own.authority());
    run(&trusting, home, "conformance", &[]).await?.done()?;
    let by_variable = behind
        .clone()
        .environment("SSL_CERT_FILE", &own.authority());
    put(&by_variable, home).await?.done()?;
    let by_bundle = behind
        .clone()
        .environment("AWS_CA_BUNDLE", &own.authority());
    put(&by_bundle, home).await?.done()?;

    let untrusted = ["UnknownIssuer", "repository.ca_file"];
    refused_at_once(&behind, home, &untrusted).await?;
    let other = TlsFront::start(&ceph.address(), home, &["store.example"]).await?;
    let wrong_name = bucket
        .clone()
        .set("repository.endpoint", other.url())
        .set("repository.ca_file", other.authority());
    let words = ["not valid for name", "repository.endpoint"];
    refused_at_once(&wrong_name, home, &words).await?;
    let wrong_authority = behind.clone().set("repository.ca_file", other.authority());
    refused_at_once(&wrong_authority, home, &["certificate"]).await?;
    // The setting counts beside the system's authorities, and before the bundle.
    let both = wrong_authority
        .clone()
        .environment("SSL_CERT_FILE", &own.authority());
    put(&both, home).await?.done()?;
    let replaced = wrong_authority.environment("AWS_CA_BUNDLE", &own.authority());
    refused_at_once(&replaced, home, &["certificate"]).await?;
    let missing = behind.set("repository.ca_file", "/nowhere/ca.pem");
    unusable(&missing, home, &["/nowhere/ca.pem", "repository.ca_file"]).await?;
    scratch.discard();
    Ok(())
}

async fn put(bucket: &Bucket, home: &Path) -> Result<Output> {
    run(bucket, home, "conformance", &["--put", "4096"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azurite_is_reached_with_a_connection_string_alone() -> Result<()> {
    let mut scratch = Scratch::create("azurite-access")?;
    let Some(azurite) = Azurite::start(&scratch).await? else {
        scratch.discard();
        return Ok(());
    };
    let bucket = azurite.container("access").await?;
    let value = |name: &str| {
        let found = bucket.environment.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.clone())
            .context("no such value")
    };
    let (account, key) = (
        value("AZURE_STORAGE_ACCOUNT_NAME")?,
        value("AZURE_STORAGE_ACCOUNT_KEY")?,
    );
    let endpoint = bucket.settings[0]
        .1
        .as_str()
        .context("no endpoint")?
        .to_owned();
    let of = |key: &str| Bucket {
        url: bucket.url.clone(),
        settings: Vec::new(),
        environment: vec![(
            "AZURE_STORAGE_CONNECTION_STRING".to_owned(),
            format!("AccountName={account};AccountKey={key};BlobEndpoint={endpoint}"),
        )],
    };
    run(&of(&key), scratch.path(), "conformance", &[])
        .await?
        .done()?;
    let line = list(&of("Z2VoZWltIHVuZCBmYWxzY2g="), scratch.path())
        .await?
        .refused(1, &["credentials"])?;
    ensure!(!line.contains("Z2VoZWlt"), "{line}");
    let az = Bucket {
        url: bucket.url.clone(),
        settings: bucket.settings.clone(),
        environment: vec![
            ("AZURE_STORAGE_ACCOUNT".to_owned(), account.clone()),
            ("AZURE_STORAGE_KEY".to_owned(), key.clone()),
        ],
    };
    put(&az, scratch.path()).await?.done()?;
    scratch.discard();
    Ok(())
}
