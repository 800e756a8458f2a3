//! Account and credentials of Azure's Blob Storage, by the variables of the `az` tool and those of
//! Azure's libraries.
//!
//! As with `az`: a connection string counts before everything else, `AZURE_STORAGE_AUTH_MODE=login`
//! before keys. Where a value has two names, that of `az` counts.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use crate::error::{Error, Result};

const CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
const SUFFIX_DEFAULT: &str = "core.windows.net";
/// The emulator's account and its key, which is public and the same everywhere.
const DEVELOPMENT: &str = "AccountName=devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;\
    BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1";

/// `variable`: of the environment, by its name.
pub(super) fn from_environment(
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<MicrosoftAzureBuilder> {
    let var = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    if let Some(text) = var(CONNECTION_STRING) {
        return from_connection_string(&text);
    }
    let mut builder = MicrosoftAzureBuilder::from_env();
    let mut set = |name: &str, key| {
        if let Some(value) = var(name) {
            let taken = std::mem::take(&mut builder);
            builder = taken.with_config(key, value.trim());
        }
    };
    set("AZURE_STORAGE_ACCOUNT", AzureConfigKey::AccountName);
    set("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey);
    set("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey);
    set("AZURE_STORAGE_SERVICE_ENDPOINT", AzureConfigKey::Endpoint);
    match var("AZURE_STORAGE_AUTH_MODE").as_deref().map(str::trim) {
        Some("login") => Ok(builder.with_config(AzureConfigKey::CredentialType, "azure_cli")),
        _ => Ok(builder),
    }
}

/// `Name=value;Name=value`. No error repeats any of it: there is a secret in it.
fn from_connection_string(text: &str) -> Result<MicrosoftAzureBuilder> {
    let malformed = |why: &str| {
        Error::invalid(format!("malformed {CONNECTION_STRING}: {why}")).hint(
            "It is what \"az storage account show-connection-string\" prints, without the quotes.",
        )
    };
    let mut pairs = Vec::new();
    for pair in text
        .trim()
        .split(';')
        .filter(|pair| !pair.trim().is_empty())
    {
        // A key may end in '=' itself.
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| malformed("a part of it is not Name=value"))?;
        pairs.push((name.trim().to_ascii_lowercase(), value.trim()));
    }
    let get = |name: &str| {
        let found = pairs.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    };
    if get("usedevelopmentstorage") == Some("true") {
        return from_connection_string(DEVELOPMENT);
    }
    let endpoint = get("blobendpoint").map(|url| url.trim_end_matches('/').to_owned());
    let account = match (get("accountname"), &endpoint) {
        (Some(account), _) => account.to_owned(),
        // That of a SAS names the account in its host only.
        (None, Some(endpoint)) => account_of(endpoint)
            .ok_or_else(|| malformed("neither AccountName nor BlobEndpoint names the account"))?,
        (None, None) => return Err(malformed("there is no AccountName in it")),
    };
    let endpoint = endpoint.unwrap_or_else(|| {
        let protocol = get("defaultendpointsprotocol").unwrap_or("https");
        let suffix = get("endpointsuffix").unwrap_or(SUFFIX_DEFAULT);
        format!("{protocol}://{account}.blob.{suffix}")
    });
    let builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_endpoint(endpoint);
    match (get("accountkey"), get("sharedaccesssignature")) {
        (Some(key), _) => Ok(builder.with_access_key(key)),
        (None, Some(sas)) => Ok(builder.with_config(AzureConfigKey::SasKey, sas)),
        (None, None) => Err(malformed(
            "there is neither AccountKey nor SharedAccessSignature in it",
        )),
    }
}

fn account_of(endpoint: &str) -> Option<String> {
    let url = url::Url::parse(endpoint).ok()?;
    let (account, _) = url.host_str()?.split_once(".blob.")?;
    Some(account.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<MicrosoftAzureBuilder> {
        from_environment(&|name| {
            let found = vars.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn values(vars: &[(&str, &str)]) -> [Option<String>; 4] {
        let builder = read(vars).unwrap();
        [
            AzureConfigKey::AccountName,
            AzureConfigKey::AccessKey,
            AzureConfigKey::SasKey,
            AzureConfigKey::Endpoint,
        ]
        .map(|key| builder.get_config_value(&key))
    }

    fn some(values: [&str; 4]) -> [Option<String>; 4] {
        values.map(|value| Some(value.to_owned()).filter(|value| !value.is_empty()))
    }

    #[test]
    fn the_variables_of_az_count() {
        let vars = [
            ("AZURE_STORAGE_ACCOUNT", "acc"),
            ("AZURE_STORAGE_KEY", "a2V5"),
        ];
        assert_eq!(values(&vars), some(["acc", "a2V5", "", ""]));
        let vars = [
            ("AZURE_STORAGE_ACCOUNT", "acc"),
            ("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=x"),
        ];
        assert_eq!(values(&vars), some(["acc", "", "sv=1&sig=x", ""]));
    }

    #[test]
    fn a_login_counts_before_keys() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let vars = [
            ("AZURE_STORAGE_ACCOUNT", "acc"),
            ("AZURE_STORAGE_KEY", "a2V5"),
            ("AZURE_STORAGE_AUTH_MODE", "login"),
        ];
        let store = read(&vars).unwrap().with_container_name("c").build();
        let shown = format!("{:?}", store.unwrap());
        assert!(shown.contains("AzureCliCredential"), "{shown}");
        assert!(!shown.contains("a2V5"), "{shown}");
    }

    #[test]
    fn a_connection_string_counts_before_everything_else() {
        let own = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5Cg==;EndpointSuffix=core.example";
        let vars = [
            (CONNECTION_STRING, own),
            ("AZURE_STORAGE_ACCOUNT", "other"),
            ("AZURE_STORAGE_SAS_TOKEN", "sv=1"),
        ];
        let expected = some(["acc", "a2V5Cg==", "", "https://acc.blob.core.example"]);
        assert_eq!(values(&vars), expected);
        let sas =
            "BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=a%3D";
        let endpoint = "https://acc.blob.core.windows.net";
        let expected = some(["acc", "", "sv=1&sig=a%3D", endpoint]);
        assert_eq!(values(&[(CONNECTION_STRING, sas)]), expected);
        let [account, _, _, endpoint] =
            values(&[(CONNECTION_STRING, "UseDevelopmentStorage=true")]);
        assert_eq!(account.unwrap(), "devstoreaccount1");
        assert!(endpoint.unwrap().starts_with("http://127.0.0.1:10000/"));
    }

    #[test]
    fn a_malformed_connection_string_is_refused_and_not_repeated() {
        for text in [
            "geheim",
            "AccountKey=geheim",
            "AccountName=geheim",
            "BlobEndpoint=https://geheim;SharedAccessSignature=geheim",
        ] {
            let error = read(&[(CONNECTION_STRING, text)]).unwrap_err();
            assert!(error.message().contains(CONNECTION_STRING), "{error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
}
