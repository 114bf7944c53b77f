{#- Drops the schema of this run if it is one of a workflow's run: dbt_ci_... -#}
{% macro drop_own_schema() -%}
    {%- if target.schema.startswith('dbt_ci_') -%} drop schema if exists {{ target.schema }} cascade {%- endif -%}
{%- endmacro %}
