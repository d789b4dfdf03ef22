//! The messages of `skn-fetch` for wrong uses, kept as a page as those of the other programs are.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::fetching;
use crate::hub;
mod page;

use fetching::{Desk, model};
use hub::Hub;
use page::Page;

#[test]
fn fetching_what_can_not_be_had() {
    let desk = Desk::new();
    let hub = model();
    let mut page = Page::new("fetch", "What can't be fetched.", desk.folder.path());
    page.varies(hub.url.clone(), "http://hub");
    let mut told = |hub: &Hub, what: &str, line: &str, code: i32| {
        let said = desk.run(hub, line.strip_prefix("skn-fetch").unwrap());
        assert_eq!(said.code, code, "{line}\n{}", said.stderr);
        page.add(what, line, (said.code, &said.stdout, &said.stderr), |_| desk.ok(hub, "--help").stdout);
    };
    told(&hub, "Nothing", "skn-fetch", 2);
    told(&hub, "A name of three parts", "skn-fetch a/b/c", 2);
    told(&hub, "A name that leads elsewhere", "skn-fetch ../name", 2);
    told(&hub, "Two revisions", "skn-fetch owner/name@v1 --revision v2", 2);
    told(&hub, "A flag that is none", "skn-fetch owner/name --force", 2);
    told(&hub, "No address", "skn-fetch owner/name --endpoint nowhere", 2);
    told(&hub, "Nobody there", "skn-fetch owner/other", 4);
    told(&hub, "A revision that is none", "skn-fetch owner/name@v9", 4);
    told(&hub, "Files that are none", "skn-fetch owner/name --include *.txt", 3);
    told(&hub, "A token that is not there", "skn-fetch owner/name --token-file token", 3);
    told(&hub, "Offline, and not here", "skn-fetch owner/name --offline", 4);
    hub.now(|manners| manners.token = Some("secret".into()));
    told(&hub, "For members only", "skn-fetch owner/name", 4);
    hub.now(|manners| manners.token = None);
    hub.now(|manners| manners.damages = true);
    told(&hub, "Contents that are damaged on the way", "skn-fetch owner/name", 4);
    assert!(page.finish() >= 13);
}
