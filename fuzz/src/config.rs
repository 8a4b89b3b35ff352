//! Configuration files: the text that `kvcli serve --config` reads, and the library's own `Config` as TOML.
//!
//! The input is the text. Claims: what is printed of a configuration reads back as the same one; what is refused is told
//! in words; a configuration that is validated keeps the relations that the code relies on.

use dledger::config::Config;
use kvcli::fuzzing;

use crate::Seed;

/// Takes one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match fuzzing::settings_of(text) {
        Err(reason) => assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}"),
        Ok((config, printed)) => {
            let again = fuzzing::settings_of(&printed).map(|(config, _printed)| config);
            assert_eq!(again.as_ref(), Ok(&config), "{printed}");
            check(&config);
        }
    }
    if let Ok(config) = toml::from_str::<Config>(text) {
        let printed = toml::to_string(&config).unwrap_or_else(|error| panic!("{config:?}: {error}"));
        assert_eq!(toml::from_str::<Config>(&printed).as_ref(), Ok(&config), "{printed}");
        check(&config);
    }
}

fn check(config: &Config) {
    match config.validate() {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(()) => {
            assert!(!config.id.is_zero());
            assert!(config.cluster.0.is_empty() || config.cluster.0.contains_key(&config.id));
            assert!(config.heartbeat.as_micros() > 0 && config.election_timeout >= config.heartbeat * 3);
            let pair = u64::from(config.max_key_bytes) + u64::from(config.max_value_bytes);
            assert!(pair < u64::from(config.max_record_bytes));
            assert!(config.segment_bytes > 0);
        }
    }
}

/// The defaults as they are printed, each setting alone, and values at the edges.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let single = "data_dir = \"d\"\n";
    let texts = [
        single.to_owned(),
        "data_dir = 'd'\nid = 2\ncluster = \"1=a:1,2=[::1]:2,3=c:3\"\nlisten = \"0.0.0.0:7101\"\nadvertise = \"[::1]:2\"\n"
            .to_owned(),
        "id = 1\nlisten = \"a:1\"\ncluster = \"1=a:1\"\ndata_dir = \"d\"\ndurability = \"async:10ms\"\n".to_owned(),
        "data_dir = \"d\"\nheartbeat = \"50ms\"\nelection_timeout = \"1s 500ms\"\n".to_owned(),
        "data_dir = \"d\"\nmax_record_bytes = 0x1000000\nsegment_bytes = 67108864\nmax_key_bytes = 4_096\n".to_owned(),
        "data_dir = \"d\"\nmax_value_bytes = 1\nmax_pending_bytes = 1\nmax_clients = 1\ninsecure = true\n".to_owned(),
        "data_dir = \"d\"\nheartbeat = \"18446744073709551615s\"\nelection_timeout = \"18446744073709551615s\"\n".to_owned(),
        "data_dir = \"d\\t\\u00e9\"\n# remark\nunknown = 1\n".to_owned(),
    ];
    let printed = fuzzing::settings_of(single).map(|(_config, printed)| printed).unwrap_or_default();
    let texts = texts.into_iter().chain([printed]);
    texts.enumerate().map(|(place, text)| (format!("text-{place}"), text.into_bytes())).collect()
}
