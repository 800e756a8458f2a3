//! All tablets that a group knows: page after page.

use seawall_proto::v1::{ListTabletsRequest, ListTabletsResponse, Tablet};

use crate::error::Error;

/// Those of all shards, of a keyspace's, or of one; `list` asks for a page.
pub async fn all<E: From<Error>>(
    keyspace: &str,
    shard: &str,
    list: impl AsyncFn(ListTabletsRequest) -> Result<ListTabletsResponse, E>,
) -> Result<Vec<Tablet>, E> {
    let mut tablets = Vec::new();
    let mut request = ListTabletsRequest {
        keyspace: keyspace.to_owned(),
        shard: shard.to_owned(),
        ..ListTabletsRequest::default()
    };
    loop {
        let page = list(request.clone()).await?;
        tablets.extend(page.tablets);
        if page.next_page_token.is_empty() {
            return Ok(tablets);
        }
        if page.next_page_token == request.page_token {
            let error = "the coordinator answers the same page of tablets again and again";
            return Err(Error::internal(error).into());
        }
        request.page_token = page.next_page_token;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tablet(number: usize) -> Tablet {
        Tablet {
            alias: format!("zone1-{number}"),
            ..Tablet::default()
        }
    }

    async fn list(request: ListTabletsRequest) -> Result<ListTabletsResponse, Error> {
        assert_eq!(
            (request.keyspace.as_str(), request.shard.as_str()),
            ("k", "s")
        );
        let (number, next) = match request.page_token.as_str() {
            "" => (1, "one"),
            "one" => (2, "two"),
            "two" => (3, ""),
            token => panic!("{token}"),
        };
        Ok(ListTabletsResponse {
            tablets: vec![tablet(number)],
            next_page_token: next.to_owned(),
        })
    }

    #[tokio::test]
    async fn every_page_is_asked_for_and_one_that_comes_again_ends_it() {
        let tablets = all("k", "s", list).await.unwrap();
        assert_eq!(tablets, [tablet(1), tablet(2), tablet(3)]);
        let again = async |_| {
            Ok::<_, Error>(ListTabletsResponse {
                next_page_token: "again".into(),
                ..ListTabletsResponse::default()
            })
        };
        all("k", "s", again).await.unwrap_err();
    }
}
