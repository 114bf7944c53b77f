{{ config(materialized='incremental', unique_key='ymd') }}

select
    access_at::date as ymd,
    count(distinct user_id) as uu
from {{ source('log', 'nginx') }}
{% if is_incremental() -%}
-- Late rows come for some days. From midnight on: a day that is read in part would take the place of one counted in full.
where access_at >= {{ dbt.dateadd('day', -5, today()) }}
{% endif -%}
group by 1
